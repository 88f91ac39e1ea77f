"""`whence locate` with a database of tiles: footprints of photos from orbit, and files for a
geographic information system."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whence.cli.output import EXIT_UNKNOWN, print_json, print_note, show_table
from whence.errors import BadOption
from whence.runtime import atomic_write, progress

if TYPE_CHECKING:
    from whence.localize.from_orbit import OrbitAnswer, OrbitLocalizer
    from whence.localize.localizer import Localizer


@dataclass(frozen=True, slots=True)
class FootprintOutputs:
    """What is written beside what is printed."""

    as_json: bool
    geojson: str | None
    folder: str | None
    """For each located photo a GeoTIFF, a polygon, control points, a world file and a picture."""
    is_quiet: bool


def locate_from_orbit(
    localizer: Localizer,
    files: Sequence[Path],
    outputs: FootprintOutputs,
    *,
    num_candidates: int,
    options: dict[str, Any],
) -> int:
    """Answer photos with footprints; a single photo without one exits 3."""
    from whence.localize.coregister import CoregisterOptions
    from whence.localize.from_orbit import MIN_INLIERS, OrbitLocalizer
    from whence.localize.orbit_files import write_georeferenced
    from whence.registry import build

    known = {
        "matcher": "rootsift-mnn",
        "min_inliers": MIN_INLIERS,
        "side_px": 512,
        "num_iterations": 4,
        "by": "sight",
    }
    for name in set(options) - set(known):
        raise BadOption(
            f"with a database of tiles scorer_options takes {', '.join(known)}, not {name!r}"
        )
    chosen = {**known, **options}
    if chosen["by"] not in ("sight", "place"):
        raise BadOption(f"candidates are chosen by=sight or by=place, not by={chosen['by']}")
    of_matcher = {"is_upright": False} if chosen["matcher"] == "rootsift-mnn" else {}
    located = OrbitLocalizer(
        localizer,
        build("matcher", str(chosen["matcher"]), options=of_matcher),
        options=CoregisterOptions(
            side_px=int(chosen["side_px"]), num_iterations=int(chosen["num_iterations"])
        ),
        num_candidates=num_candidates,
        min_inliers=int(chosen["min_inliers"]),
        is_by_place=chosen["by"] == "place",
    )
    answers = []
    for answer in _answers(located, files, is_quiet=outputs.is_quiet or outputs.as_json):
        answers.append(answer)
        if outputs.as_json:
            print_json(answer.to_dict())
        if outputs.folder is not None and answer.footprint is not None:
            off_m = write_georeferenced(Path(outputs.folder), answer, located)
            print_note(
                f"{Path(answer.query).stem}: a world file holds no perspective, this one is up to "
                f"{off_m:.0f} m off; the GeoTIFF is not"
            )
    if not outputs.as_json:
        titles = ("photo", "status", "middle", "km2", "roll", "inliers", "tile")
        show_table(titles, map(_row, answers))
        for answer in answers:
            if answer.reason:
                print_note(f"{answer.query}: {answer.reason}")
    if outputs.geojson is not None:
        collection = {
            "type": "FeatureCollection",
            "features": [answer.feature() for answer in answers],
        }
        with atomic_write(outputs.geojson, "w") as file:
            file.write(json.dumps(collection, indent=1))
    return EXIT_UNKNOWN if len(answers) == 1 and answers[0].status == "unknown" else 0


def _answers(
    located: OrbitLocalizer, files: Sequence[Path], *, is_quiet: bool
) -> Iterator[OrbitAnswer]:
    if len(files) == 1:
        yield located.locate(files[0])
        return
    with progress("locating", total=len(files), show=False if is_quiet else None) as advance:
        for answer in located.locate_many(files):
            advance(1)
            yield answer


def _row(answer: OrbitAnswer) -> tuple[str, ...]:
    about, place = answer.feature()["properties"], ("", "", "")
    if answer.footprint is not None:
        middle = f"{about['lat']:.4f}, {about['lon']:.4f}"
        place = (middle, f"{about['area_km2']:.0f}", f"{about['roll_deg']:.0f}")
    count = answer.num_inliers or max((one.num_inliers for one in answer.candidates), default=0)
    return Path(answer.query).name, answer.status, *place, str(count), Path(answer.tile).name
