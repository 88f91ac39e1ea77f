"""`render_world`: a city of street photos from a seed, written as a data set with exact truth.

A world's folder holds its photos, `world.json` (what the photos follow from) and `cameras.csv` (K,
R, t of every photo). Photos are keyed by (seed, city, photo): any number of workers gives the same
pixels, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from whence.errors import BadOption, InputError, UnknownName, UnwritableFile
from whence.runtime import claim_folder, num_cores, progress
from whence.worlds.capture import CaptureOptions
from whence.worlds.layouts import get_layout
from whence.worlds.mesh import PX_PER_M, write_mesh
from whence.worlds.presets import LATER_CAPTURE, LATER_FIELDS, CitySize, WorldSpec, get_preset
from whence.worlds.scene import Scene
from whence.worlds.shards import city_works, render_shard
from whence.worlds.truth import TRUTH_PICTURES, cameras_of, write_cameras
from whence.worlds.workers import run_workers
from whence.worlds.works import CityWork

FEW_PHOTOS = 200
"""Fewer missing photos than this are rendered in the calling process: starting others would take
longer."""


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What may be chosen about a world beside its size and seed."""

    capture: CaptureOptions = field(default_factory=CaptureOptions)
    aliased_share: float = 0.25
    """Share of streets whose buildings repeat those of another street."""
    repeated_share: float = 0.0
    """Share of fronts that repeat the one beside them, so that neighbouring cells of a map show the
    same."""
    px_per_m: float | None = None
    """Resolution of the nearest textures; by default it grows with the photos' width, 32 at 320
    pixels."""
    truth: tuple[str, ...] = ()
    """Pictures of the truth to write beside the photos: depth, labels, facades."""
    cities: tuple[CitySize, ...] | None = None
    """Other cities than the preset's."""


@dataclass(frozen=True, slots=True)
class WorldSummary:
    """What was rendered."""

    path: Path
    num_database: int
    num_queries: int
    num_unknown: int
    num_rendered: int
    """Photos rendered now; the others were there."""
    seconds: float
    remarks: tuple[str, ...] = ()
    """What the layout has to say of what is there."""


def render_world(
    out: str | Path,
    *,
    preset: str = "small",
    seed: int = 0,
    layout: str = "folders",
    options: WorldOptions | None = None,
    show_progress: bool | None = None,
    num_workers: int | None = None,
) -> WorldSummary:
    """A summary of a world, rendered into the folder `out`.

    `preset`: a name in `whence.worlds.presets`. `layout`: how the files lie, see
    `whence.worlds.layouts`. `num_workers`: processes; by default one per core. Photos that `out`
    already holds are kept. Raises `InputError` where `out` holds another world.
    """
    started = time.perf_counter()
    if seed < 0:
        raise BadOption(f"seed {seed}: a seed is zero or more")
    spec = make_spec(preset, seed=seed, layout=layout, options=options or WorldOptions())
    out = Path(out)
    workers = num_cores() if num_workers is None else max(1, num_workers)
    try:
        _claim(out, spec)
        works, num_rendered = _render(out, spec, num_workers=workers, show_progress=show_progress)
    except OSError as error:
        where = error.path if isinstance(error, UnwritableFile) else error.filename or out
        cause = OSError(
            error.errno,
            f"{error.strerror or error} (the same command goes on where this one stopped)",
        )
        raise UnwritableFile(where, cause) from error
    shots = [
        named.shot
        for work in works
        for named in work.named_shots
        if not (named.shot.is_mesh or named.shot.is_panorama)
    ]
    counts = [
        sum(shot.role == role for shot in shots)
        for role in ("database", "queries", "queries_unknown")
    ]
    seconds = time.perf_counter() - started
    return WorldSummary(
        out, counts[0], counts[1], counts[2], num_rendered, seconds, get_layout(layout).remarks(out)
    )


def _render(
    out: Path, spec: WorldSpec, *, num_workers: int, show_progress: bool | None
) -> tuple[list[CityWork], int]:
    """Write tables and missing photos of a claimed world; gives its cities and how many photos were
    missing."""
    works = list(city_works(spec))
    write_cameras(
        out / "cameras.csv",
        (
            row
            for work in works
            for row in cameras_of(work.named_shots, work.plan, work.size.name, options=work.capture)
        ),
    )
    get_layout(spec.layout).write_tables(out, works)
    missing = [
        named for work in works for named in work.named_shots if not (out / named.path).is_file()
    ]
    for folder in {(out / named.path).parent for named in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    with progress("rendering", total=len(missing), show=show_progress) as advance:
        if num_workers == 1 or len(missing) < FEW_PHOTOS:
            render_shard(out, spec, shard=0, num_shards=1, advance=advance)
        elif missing:
            run_workers(out, num_workers=num_workers, advance=advance)
    get_layout(spec.layout).write_last(out, works)
    return works, len(missing)


def make_spec(preset: str, *, seed: int, layout: str, options: WorldOptions) -> WorldSpec:
    """The record of a world."""
    get_layout(layout)
    for name, share in (
        ("aliased_share", options.aliased_share),
        ("repeated_share", options.repeated_share),
    ):
        if not 0 <= share <= 1:
            raise BadOption(f"{name} {share}: a share lies between 0 and 1")
    if options.capture.width < 16 or options.capture.height < 16:
        raise BadOption(
            f"photos of {options.capture.width}x{options.capture.height} pixels: both sides need "
            "at least 16"
        )
    for name in options.truth:
        if name not in TRUTH_PICTURES:
            raise UnknownName("picture of the truth", name, TRUTH_PICTURES)
    px_per_m = options.px_per_m or 32.0 * max(0.5, options.capture.width / 320) ** 0.5
    return WorldSpec(
        seed=seed,
        cities=get_layout(layout).cities(options.cities or get_preset(preset)),
        layout=layout,
        capture=options.capture,
        aliased_share=options.aliased_share,
        repeated_share=options.repeated_share,
        px_per_m=px_per_m,
        truth=options.truth,
    )


def _claim(out: Path, spec: WorldSpec) -> None:
    """Make `out` the folder of this world, or check that it is."""
    asked = json.loads(spec.to_json())
    found = claim_folder(out, asked, name="world.json")
    if found is None:
        return
    # Compared as text: the order of the conditions decides which run is which. Records of before
    # lack what came later.
    known = {**{name: found.get(name, LATER_FIELDS.get(name)) for name in asked}, **found}
    known["capture"] = {
        **known["capture"],
        **{name: known["capture"].get(name, value) for name, value in LATER_CAPTURE.items()},
    }
    if json.dumps(known) != json.dumps(asked):
        record = str(out / "world.json")
        raise InputError(
            f"{record!r} describes another world; choose another folder, or delete this one to "
            "render anew"
        )


def write_city_mesh(
    path: str | Path, *, preset: str, seed: int, options: WorldOptions, layout: str = "folders"
) -> int:
    """The number of triangles of a world's first city, written as a textured mesh.

    Raises as `whence.worlds.mesh.write_mesh` and `make_spec`.
    """
    work = next(city_works(make_spec(preset, seed=seed, layout=layout, options=options)))
    return write_mesh(Path(path), Scene(work.plan, px_per_m=PX_PER_M, is_coarse=True))
