"""Fit how probably two photos show the same thing, from pairs of rendered photos, and write it as
JSON.

    python tools/fit_pair_confidence.py [--work FOLDER] [--pairs N]

Genuine pairs: photos of one city taken within 15 m of each other that look the same way within 40
degrees, by any light. Impostors: photos taken more than 100 m apart, drawn at random, as two photos
that somebody compares. The cities are those that the calibrations of `fit_calibrations.py` come
from. Printed beside the weights: pairs accepted of each kind, on a city that the fit has not seen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from fit_calibrations import FIT_CITIES, FitCity, render_city

from whence.cards import Preprocessing
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.evaluation.confidence import fit_logistic
from whence.geo import to_earth_centred
from whence.matching.evidence import LEAST_CONFIDENCE, NOISE_INLIERS, PairCalibration, surprise_of
from whence.matching.geometry import GeometryModel, GeometrySettings, fit_geometry
from whence.matching.matchers import MatchOptions, smaller_coverage
from whence.models.descriptor import read_as
from whence.runtime import atomic_write, progress, set_threads

MATCHERS = ("rootsift-mnn", "orb-mnn")
NEAR_M, SAME_WAY_DEG, FAR_M = 15.0, 40.0, 100.0
FILE = Path(__file__).parents[1] / "src" / "whence" / "matching" / "pair_confidence.json"


class PairTable(NamedTuple):
    """What comparing pairs showed, one row per pair."""

    features: np.ndarray
    """(P, 2): log of one plus the surprise, coverage."""
    num_inliers: np.ndarray
    is_genuine: np.ndarray


def draw_pairs(photos: Photos, *, num_pairs: int, seed: int) -> list[tuple[int, int, bool]]:
    """Rows of photos and whether they show the same thing: up to `num_pairs` that do, and twice as
    many that do not."""
    random = np.random.default_rng(seed)
    ground = to_earth_centred(photos.columns["lat"], photos.columns["lon"])
    gaps = np.linalg.norm(ground[:, None] - ground[None], axis=2)
    heading = photos.columns["heading_deg"]
    turn = np.abs((heading[:, None] - heading[None] + 180) % 360 - 180)
    genuine = np.argwhere(np.triu((gaps < NEAR_M) & (turn < SAME_WAY_DEG), 1))
    others = np.argwhere(np.triu(gaps > FAR_M, 1))
    drawn = [
        (table[random.choice(len(table), min(num, len(table)), replace=False)], is_genuine)
        for table, num, is_genuine in ((genuine, num_pairs, True), (others, 2 * num_pairs, False))
    ]
    return [(int(a), int(b), is_genuine) for table, is_genuine in drawn for a, b in table]


def compare_pairs(
    photos: Photos, pairs: list[tuple[int, int, bool]], matcher: str
) -> dict[GeometryModel, PairTable]:
    """What a matcher finds on the pairs, by geometry; of several ways of matching the one that
    chance gives least."""
    matchers = MatchOptions(matcher=matcher).open_matchers()
    steps = Preprocessing(long_side_px=MatchOptions().long_side_px)
    rows = sorted({row for a, b, _ in pairs for row in (a, b)})
    images = {row: read_as(photos.file(row), steps) for row in rows}
    kept = [{row: one.prepare(images[row]) for row in rows} for one in matchers]
    rows_by_model: dict[GeometryModel, list[tuple[float, float, int]]] = {
        model: [] for model in get_args(GeometryModel)
    }
    with progress(f"comparing pairs by {matcher}", total=len(pairs)) as advance:
        for a, b, _ in pairs:
            ways = [
                next(one.match(arrays[a], [arrays[b]]))
                for one, arrays in zip(matchers, kept, strict=True)
            ]
            for model, table in rows_by_model.items():
                settings = GeometrySettings(model=model)
                shown = []
                for way in ways:
                    assert way is not None
                    fit = fit_geometry(
                        way.points0,
                        way.points1,
                        size0_px=way.size0_px,
                        size1_px=way.size1_px,
                        settings=settings,
                    )
                    surprise = surprise_of(way, fit.is_inlier, settings)
                    shown.append((surprise, smaller_coverage(way, fit.is_inlier), fit.num_inliers))
                table.append(max(shown))
            advance(1)
    is_genuine = np.array([genuine for _, _, genuine in pairs])
    tables = {}
    for model, rows_found in rows_by_model.items():
        surprise, covered, inliers = np.array(rows_found, float).T
        tables[model] = PairTable(
            np.column_stack([np.log1p(surprise), covered]), inliers, is_genuine
        )
    return tables


def fit(tables: list[PairTable]) -> PairCalibration:
    """The calibration that tables of pairs suggest; genuine pairs and others count the same."""
    features = np.concatenate([table.features for table in tables])
    is_genuine = np.concatenate([table.is_genuine for table in tables])
    # Pairs below the noise level are never accepted, so genuine ones among them teach nothing;
    # impostors show what chance gives.
    kept = ~is_genuine | (np.concatenate([table.num_inliers for table in tables]) >= NOISE_INLIERS)
    shares = np.where(
        is_genuine,
        0.5 / max((kept & is_genuine).sum(), 1),
        0.5 / max((kept & ~is_genuine).sum(), 1),
    )
    weights = fit_logistic(features[kept], is_genuine[kept], shares[kept])
    return PairCalibration(weights, int((kept & is_genuine).sum()), int((kept & ~is_genuine).sum()))  # type: ignore[arg-type]


def show_held_out(name: str, tables: list[PairTable], cities: list[FitCity]) -> None:
    """Print how pairs of each city fare with a calibration of the others."""
    for city, table in zip(cities, tables, strict=True):
        others = [one for one, other in zip(tables, cities, strict=True) if other.seed != city.seed]
        if not others:
            continue
        calibration = fit(others)
        accepted = np.array(
            [
                calibration.confidence(np.expm1(log_surprise), covered)
                for log_surprise, covered in table.features
            ]
        )
        accepted = (accepted >= LEAST_CONFIDENCE) & (table.num_inliers >= NOISE_INLIERS)
        print(
            f"{name}, {city.name}, fitted on other cities: {accepted[table.is_genuine].sum()} of "
            f"{table.is_genuine.sum()} genuine pairs accepted, "
            f"{accepted[~table.is_genuine].sum()} of {(~table.is_genuine).sum()} others",
            flush=True,
        )


def main() -> None:
    """Render where needed, compare, fit, write."""
    parser = argparse.ArgumentParser(
        description="Fit how probably two photos show the same thing, on rendered photos."
    )
    parser.add_argument("--work", help="folder in which cities are kept")
    parser.add_argument(
        "--pairs",
        type=int,
        default=250,
        help="genuine pairs a city; twice as many others (default 250)",
    )
    given = parser.parse_args()
    cities = [FIT_CITIES[0], FIT_CITIES[1], FIT_CITIES[-1]]
    set_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        tables: dict[tuple[str, GeometryModel], list[PairTable]] = {}
        for city in cities:
            root = render_city(Path(given.work or made), city)
            photos = Photos.concatenate(
                [scan_photos(root / name, show_progress=False) for name in ("database", "queries")]
            )
            pairs = draw_pairs(photos, num_pairs=given.pairs, seed=city.seed)
            for matcher in MATCHERS:
                for model, table in compare_pairs(photos, pairs, matcher).items():
                    tables.setdefault((matcher, model), []).append(table)
        for (matcher, model), parts in tables.items():
            show_held_out(f"{matcher}, {model}", parts, cities)
            found = fit(parts)
            rows.append(
                {
                    "matcher": matcher,
                    "geometry": model,
                    "weights": list(found.weights),
                    "num_genuine": found.num_genuine,
                    "num_impostors": found.num_impostors,
                }
            )
    source = "pairs of rendered photos (seed, photo width): " + ", ".join(
        f"{city.seed}, {city.width} px" for city in cities
    )
    with atomic_write(FILE, "w") as file:
        file.write(json.dumps({"source": source, "calibrations": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
