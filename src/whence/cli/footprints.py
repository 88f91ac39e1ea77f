"""`whence locate` with a database of tiles: footprints of photos from orbit, and files for a
geographic information system."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from whence.cli.output import EXIT_UNKNOWN, print_json, print_note, show
from whence.data.fields import as_text
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
            write_georeferenced(Path(outputs.folder), answer, located)
    if not outputs.as_json:
        show(_table(answers))
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


def write_georeferenced(folder: Path, answer: OrbitAnswer, located: OrbitLocalizer) -> None:
    """Write what a geographic information system opens of a located photo. Raises `MissingExtra`
    and `UnwritableFile`."""
    from whence.data.images import load_image
    from whence.data.pictures import write_picture
    from whence.localize.georeference import (
        control_points,
        draw_overlay,
        write_geotiff,
        write_world_file,
    )

    assert answer.footprint is not None, "only of what was located"
    assert answer.matrix is not None, "found with the footprint"
    folder.mkdir(parents=True, exist_ok=True)
    photo, name = load_image(answer.query), Path(answer.query).stem
    size = (photo.shape[1], photo.shape[0])
    with atomic_write(folder / f"{name}.geojson", "w") as file:
        file.write(json.dumps(answer.feature(), indent=1))
    off_m = write_world_file(folder / f"{name}.wld", answer.footprint, size)
    points = control_points(answer.footprint, size)
    lines = [
        "column,row,east_m,north_m",
        *(",".join(f"{value:.4f}" for value in row) for row in points),
    ]
    with atomic_write(folder / f"{name}.points.csv", "w") as file:
        file.write("\n".join([*lines, ""]))
    write_geotiff(folder / f"{name}.tif", photo, answer.footprint)
    _keep_named(folder / "named", answer)
    around = located.surroundings(answer.row)
    write_picture(
        folder / f"{name}.overlay.png",
        draw_overlay(photo, around, answer.matrix, side_px=located.options.side_px),
    )
    print_note(
        f"{name}: a world file holds no perspective, this one is up to {off_m:.0f} m off; the "
        "GeoTIFF is not"
    )


def _keep_named(folder: Path, answer: OrbitAnswer) -> None:
    """Copy the photo under the name that carries its footprint, which training reads."""
    from whence.data.footprints import area_km2, centre_of
    from whence.data.tiles import format_footprint_name

    assert answer.footprint is not None, "only of what was located"
    middle, area = centre_of(answer.footprint), area_km2(answer.footprint)
    own = Path(answer.query)
    named = format_footprint_name(
        answer.footprint, image_id=own.stem.replace("@", "-"), time="", nadir=middle, area_km2=area
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(folder / f"{named.removesuffix('.jpg')}{own.suffix}") as file,
        own.open("rb") as photo,
    ):
        shutil.copyfileobj(photo, file)


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


def _table(answers: Sequence[OrbitAnswer]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("photo", "status", "middle", "km2", "roll", "inliers", "tile"):
        table.add_column(title, overflow="fold")
    for answer in answers:
        about = answer.feature()["properties"]
        place = "" if answer.footprint is None else f"{about['lat']:.4f}, {about['lon']:.4f}"
        area = "" if answer.footprint is None else f"{about['area_km2']:.0f}"
        roll = "" if answer.footprint is None else f"{about['roll_deg']:.0f}"
        count = answer.num_inliers or max((one.num_inliers for one in answer.candidates), default=0)
        cells = (
            Path(answer.query).name,
            answer.status,
            place,
            area,
            roll,
            str(count),
            Path(answer.tile).name,
        )
        table.add_row(*map(as_text, cells))
    return table
