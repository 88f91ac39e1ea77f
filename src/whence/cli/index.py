"""`whence index`: make and extend a database of photos; keeping it is `whence database`."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.drives import with_frames
from whence.cli.output import (
    print_json,
    print_note,
    report_remarks,
    report_skipped,
    set_help,
    show,
)
from whence.cli.tokens import Thinned
from whence.data.fields import as_size, as_text, printable
from whence.errors import BadOption, StoreFull
from whence.localize.questions import StatedBuild
from whence.settings import BuildOptions, load_settings, parse_options, with_assignments

if TYPE_CHECKING:
    from whence.localize.build import BuildPlan, BuildReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "index", help="Make or extend a database from folders, files, globs or lists of photos."
    )(index)


_SET = typer.Option([], "--set", help=set_help(StatedBuild))


def index(
    photos: list[str] = typer.Argument(
        None, help="Folders, photo files, glob patterns, videos, or .txt files that list paths."
    ),
    database: str = typer.Option(
        None, "--db", help="Database folder. Default: photos.whence, or the setting `database`."
    ),
    model: str = typer.Option(
        None,
        autocompletion=completion.models,
        help="Model that describes the photos; `whence models` lists them.",
    ),
    option: list[str] = typer.Option(
        [], "--option", help="Model option as name=value, e.g. pca_dim=256. May be repeated."
    ),
    assignments: list[str] = _SET,
    positions: str = typer.Option(None, help="CSV or GeoJSON file with the photos' positions."),
    every: str = typer.Option(
        None,
        "--every",
        help="Frames taken of a video: 1s, 2m (metres of --track) or change. Default: 1s.",
    ),
    track: str = typer.Option(
        None, "--track", help="GPX file that says where a video was, matched by time."
    ),
    tokens: str = typer.Option(
        None,
        "--tokens",
        help="Keep one token a frame by this model, and describe key frames alone.",
    ),
    layout: str = typer.Option(
        None,
        "--layout",
        autocompletion=completion.layouts,
        help="Take the database of a set that is laid out so, positions and all; give its folder.",
    ),
    engine: str = typer.Option(
        None,
        help="Search engine: auto (default), flat or int8 (exact), cells or cells:N (photos of the "
        "N likeliest places), a faiss "
        'factory string like "IVF1024,PQ64x4fs", or a server: milvus://HOST:PORT/COLLECTION, postgresql://USER@HOST/DATABASE.',
    ),
    cells: str = typer.Option(
        None,
        "--cells",
        help=(
            "File of learned cells to tell places by, with or without photos; makes the database "
            "where there is none."
        ),
    ),
    estimate: bool = typer.Option(
        False, "--estimate", help="Only say how much work and disk it would take."
    ),
    no_calibrate: bool = typer.Option(
        False,
        "--no-calibrate",
        help="Fit no calibration on the photos where the model comes without one.",
    ),
    machines: str = typer.Option(
        None,
        "--cluster",
        help="Describe on a dask cluster: tcp://SCHEDULER:8786, or local:N processes.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Describe photos and keep them in a database. Run it again to go on after an interruption or
    to add photos."""
    from whence.localize import build
    from whence.localize.cells import ENGINE, store_cells
    from whence.localize.machines import opened_machines

    path = load_settings(flags={"database": database}).database
    index_fields = with_assignments(StatedBuild(), assignments)
    progress = False if quiet or as_json else None
    if not photos and cells is None:
        raise BadOption(
            "give photos to index, or --cells FILE; whence database keeps a database that is there"
        )
    if not photos:
        return _give_cells(path, str(cells), as_json)
    if tokens is not None and (layout is not None or estimate):
        raise BadOption("--tokens goes with a video or its frames, without --layout and --estimate")
    # Of a new database with another model than the cells have, the photos come first: they say
    # which model it is.
    is_told_late = (
        cells is not None and not estimate and model is not None and not build.is_begun(Path(path))
    )
    if cells is not None and not estimate and not is_told_late:
        store_cells(path, cells)
    engine = ENGINE if is_told_late and engine is None else engine
    drive = Thinned(with_frames(photos, path, every=every, track=track), tokens, positions)
    photos = drive.sources
    given: dict[str, Any] = {
        "model": model,
        "engine": engine,
        "model_options": parse_options(option) or None,
    }
    before = build.stored_options(path) or BuildOptions(model=load_settings().model)
    given = {name: value for name, value in given.items() if value is not None}
    options = replace(before, **given, **index_fields.build_options())
    if not (as_json or quiet or estimate):
        from whence.cli.fetch import announce_weights

        announce_weights(options.model, options.model_options)
    if layout is not None:
        report = _index_set(
            photos, layout, path, options, positions, estimate, show_progress=progress
        )
        if is_told_late:
            store_cells(path, str(cells))
        return finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)
    if estimate:
        return _print_plan(
            build.plan_build(photos, path=path, options=options, positions=positions), as_json
        )

    def announce(plan: BuildPlan) -> None:
        _check_space(path, plan.size_bytes)
        if not (as_json or quiet):
            print_note(
                f"{plan.num_photos} photos, {plan.num_to_describe} to describe; the database will "
                f"take {as_size(plan.size_bytes)}"
            )

    given_by = {
        "path": path,
        "options": options,
        "positions": positions,
        "show_progress": progress,
        "on_plan": announce,
    }
    with opened_machines(machines, sends_photos=index_fields.sends_photos) as opened:
        report = build.build_database(photos, machines=opened, **given_by)
    drive.keep(path, is_quiet=as_json)
    if is_told_late:
        store_cells(path, str(cells))
    return finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)


def _index_set(
    sets: list[str],
    layout: str,
    path: str,
    options: BuildOptions,
    positions: str | None,
    estimate: bool,
    *,
    show_progress: bool | None,
) -> BuildReport:
    """What was done with the database photos of one set. Such a database knows no folders to be
    refreshed from."""
    from whence.data.evaluation_sets import open_set
    from whence.data.scan import ReadOptions
    from whence.localize.build import build_from_photos
    from whence.models.descriptor import load_model

    if len(sets) != 1 or estimate:
        raise BadOption("--layout takes the folder of one set, and goes without --estimate")
    reading = ReadOptions(show_progress=show_progress, allow_null_island=options.allow_null_island)
    found = open_set(sets[0], layout=layout, positions=positions, options=reading).database
    model = load_model(options.model, options=options.model_options)
    return build_from_photos(
        found, path=path, model=model, options=options, show_progress=show_progress
    )


def finish(
    report: BuildReport, as_json: bool, *, is_calibrated: bool, show_progress: bool | None
) -> int:
    """Print what was done; before, where nothing calibrated answers of this model, fit a
    calibration on the photos themselves."""
    from whence.evaluation.own_calibration import calibrate_report

    remark = (
        calibrate_report(report, show_progress=show_progress)
        if is_calibrated and report.num_described
        else ""
    )
    _print_report(report, as_json, calibration=remark)
    return 0


def _give_cells(path: str, file: str, as_json: bool) -> int:
    from whence.localize.cells import store_cells

    given = store_cells(path, file)
    record = {"cells": len(given), "database": path}
    if as_json:
        print_json({**record, "cell_m": given.cell_m, "zone": given.zone, "model": given.model})
        return 0
    told = f"cells of {given.cell_m:g} m, told by {given.model or 'its own model'}"
    show(as_text(f"{len(given)} {told}, given to {path}"))
    return 0


def _check_space(path: str, size_bytes: int) -> None:
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise StoreFull(
            path, f"the database will take {as_size(size_bytes)}, but only {as_size(free)} are free"
        )


def _print_plan(plan: object, as_json: bool) -> int:
    record = asdict(plan)  # type: ignore[call-overload]
    if as_json:
        print_json(record)
    else:
        size = as_size(record["size_bytes"])
        show(
            f"{record['num_photos']} photos, {record['num_to_describe']} to describe; the "
            f"database will take about {size}"
        )
    return 0


def _print_report(report: BuildReport, as_json: bool, *, calibration: str) -> None:
    from whence.localize.maintain import HOW_TO_GO_ON

    record = asdict(report)
    if as_json:
        record["skipped"] = [
            {"photo": path, "reason": reason} for path, reason in record["skipped"]
        ]
        print_json({**record, "calibration": calibration})
        return
    report_skipped(report.skipped)
    report_remarks(report.remarks)
    for missing in report.missing:
        print_note(f"{missing}; its photos are kept. {HOW_TO_GO_ON}")
    changes = ", ".join(
        f"{record[f'num_{what}']} {what}"
        for what in ("added", "updated", "removed")
        if record[f"num_{what}"]
    )
    show(
        f"{printable(record['path'])}: {record['num_photos']} photos, {record['num_with_point']} "
        f"with coordinates, {record['num_descriptors']} descriptors of {record['model']} "
        f"(vocabulary {record['vocabulary']}), {as_size(record['size_bytes'])}\n"
        f"{changes or 'nothing changed'}; {record['num_described']} described in "
        f"{record['seconds']:.1f} s"
    )
    if calibration:
        print_note(calibration)
