"""How the runs of the study of registration are measured: pairs are matched once, and fitted by
every geometry and gate."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.registration_sets import TiePair, read_registration_set
from whence.errors import BadOption, UnreadableImage
from whence.evaluation.tie_points import (
    WITHIN_PX,
    MatchedPair,
    PairScore,
    match_pair,
    score_pair,
    summarise,
)
from whence.localize.register import Box, MatchedTiles, RegisterOptions, TileMatches
from whence.registry import build
from whence.runtime import atomic_write, threads
from whence.studies.frame import Run, Settings, Value, read_run
from whence.studies.registration_settings import ALL_KINDS, SUMMARIES, list_settings
from whence.types import PointPairs

_MOST_FAILED = 0.5
TURNED = "turned"


def measure_registration(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The published metrics of one setting, or what the settings of one matcher and kind come to
    together."""
    if run["geometry"] in SUMMARIES:
        return _together(run, options, work)
    chosen = RegisterOptions(
        geometry=str(run["geometry"]),  # type: ignore[arg-type]
        tile_px=int(run["tile"]),
        overlap_px=int(run["overlap"]),
        threshold_px=float(options["threshold"]),
        min_inliers=int(run["inliers"]),
        normalisation=str(options["normalisation"]),
    )
    scores, seconds = [], 0.0
    numbered = [
        one
        for one in enumerate(_pairs(str(options["data"])))
        if run["kind"] in (ALL_KINDS, one[1].kind)
    ]
    for number, pair in numbered[: int(options["pairs"]) or None]:
        try:
            found, spent = _matched(number, pair, chosen, run, options, work)
        except UnreadableImage as error:
            scores.append(PairScore(pair.name, pair.kind, error.reason, np.zeros(0)))
            continue
        seconds += spent
        scores.append(score_pair(found, chosen))
    if not scores:
        raise BadOption(f"{options['data']} holds no pairs of the kind {run['kind']}")
    group = f"{run['matcher']}|{chosen.normalisation}|{'tiled' if chosen.tile_px else 'full'}"
    one = summarise(scores, group=group)
    return {
        "mean": Value(one.mean_px, *one.intervals["mean"]),
        "of file": Value(one.mean_native_px),
        "median": Value(one.median_px),
        "failed": Value(one.failure_rate),
        "within 5": Value(one.penalised[WITHIN_PX.index(5)]),
        "within 10": Value(one.penalised[WITHIN_PX.index(10)]),
        "time": Value(seconds / len(scores)),
        "pairs": Value(float(len(scores))),
    }


def _together(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Means over the settings that were measured before, and the ratio of the worst to the best."""
    of_geometry = str(run["geometry"]).removeprefix("mean of ")
    found = [
        read_run(work.parent, one).values
        for one in list_settings(options)
        if (one.settings["matcher"], one.settings["kind"]) == (run["matcher"], run["kind"])
        and one.settings["geometry"] not in SUMMARIES
        and run["geometry"] in (SUMMARIES[-1], f"mean of {one.settings['geometry']}")
    ]
    done = [values for values in found if values]
    if len(done) < len(found):
        raise BadOption(f"{len(found) - len(done)} settings of {of_geometry} are not measured yet")
    means = np.array(
        [values["mean"].value for values in done if values["failed"].value <= _MOST_FAILED]
    )
    names = ("of file", "failed", "within 5", "within 10")
    columns = {name: np.array([values[name].value for values in done]) for name in names}
    # Where all pairs of a setting failed it has no error.
    about = {
        name: Value(float(column[np.isfinite(column)].mean()))
        for name, column in columns.items()
        if np.isfinite(column).any()
    }
    if not len(means):
        return about
    return {
        "mean": Value(float(means.mean()), float(means.min()), float(means.max())),
        **about,
        "worst over best": Value(float(means.max() / means.min())),
    }


@lru_cache(maxsize=1)
def _pairs(folder: str) -> tuple[TiePair, ...]:
    return tuple(read_registration_set(folder))


@lru_cache(maxsize=1)
def _matcher(text: str, weights: str) -> Any:
    name, _, way = text.partition(":")
    if way not in ("", TURNED):
        raise BadOption(
            f"a matcher is NAME, or NAME:{TURNED} for pairs that are turned, not {text!r}"
        )
    own: dict[str, Any] = (
        {"weights": weights}
        if weights and name not in ("orientation", "rootsift-mnn", "orb-mnn")
        else {}
    )
    if way:
        own["is_upright"] = False
    return build("matcher", name, options=own)


def _matched(
    number: int,
    pair: TiePair,
    rules: RegisterOptions,
    run: Settings,
    options: Settings,
    work: Path,
) -> tuple[MatchedPair, float]:
    """What is matched of a pair, kept for other runs, and the seconds that it took when it was."""
    about = {name: run[name] for name in ("matcher", "max side", "tile", "overlap")}
    file = work / "matches" / Run(about).key / f"{number}.npz"
    if file.is_file():
        return _read(file, pair)
    with threads(1):
        matcher = _matcher(str(run["matcher"]), str(options["weights"]))
        started = time.process_time()
        found = match_pair(pair, matcher, rules, max_side_px=int(run["max side"]))
        seconds = time.process_time() - started
    file.parent.mkdir(parents=True, exist_ok=True)
    tiles = found.matched.tiles
    counts = np.array([len(tile.pairs.points0) for tile in tiles], np.int64)
    record = {
        "sizes": [found.matched.size0_px, found.matched.size1_px],
        "native": found.native,
        "seconds": seconds,
    }
    with atomic_write(file, is_flushed=False) as out:
        np.savez_compressed(
            out,
            about=np.array(json.dumps({**record, "num_tiles": found.matched.num_tiles})),
            ties=found.ties,
            boxes=np.array([[*tile.box, *tile.fixed_box] for tile in tiles], np.int64).reshape(
                -1, 8
            ),
            counts=counts,
            points=np.concatenate(
                [np.hstack([tile.pairs.points0, tile.pairs.points1]) for tile in tiles]
                or [np.zeros((0, 4))]
            ),
        )
    return found, seconds


def _read(file: Path, pair: TiePair) -> tuple[MatchedPair, float]:
    with np.load(file, allow_pickle=False) as kept:
        about = json.loads(str(kept["about"]))
        ties, boxes, counts, points = (kept[name] for name in ("ties", "boxes", "counts", "points"))
    sizes = [(int(width), int(height)) for width, height in about["sizes"]]
    starts = np.concatenate([[0], np.cumsum(counts)])
    tiles = []
    for row, (box, count) in enumerate(zip(boxes.tolist(), counts.tolist(), strict=True)):
        own = points[starts[row] : starts[row + 1]]
        pairs = PointPairs(own[:, :2], own[:, 2:], sizes[0], sizes[1], (count, count))
        tiles.append(TileMatches(Box(*box[:4]), Box(*box[4:]), pairs))
    matched = MatchedTiles(tuple(tiles), sizes[0], sizes[1], int(about["num_tiles"]))
    return MatchedPair(pair, matched, ties, float(about["native"])), float(about["seconds"])
