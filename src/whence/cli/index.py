"""`whence index`: make, extend and keep a database of photos."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.drives import with_frames
from whence.cli.moved import split_moved
from whence.cli.output import as_size, print_error, print_json, print_note, report_remarks, report_skipped, show
from whence.cli.tokens import Thinned
from whence.data.cells import as_text, printable
from whence.errors import BadOption, StoreFull
from whence.settings import BuildOptions, load_settings, parse_options

if TYPE_CHECKING:
    from whence.localize.build import BuildPlan, BuildReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("index", help="Make or extend a database from folders, files, globs or lists of photos.")(index)


def index(
    photos: list[str] = typer.Argument(None, help="Folders, photo files, glob patterns, videos, or .txt files that list paths."),
    database: str = typer.Option(None, "--db", help="Database folder. Default: photos.whence, or the setting `database`."),
    model: str = typer.Option(
        None, autocompletion=completion.models, help="Model that describes the photos; `whence models` lists them."
    ),
    option: list[str] = typer.Option([], "--option", help="Model option as name=value, e.g. pca_dim=256. May be repeated."),
    positions: str = typer.Option(None, help="CSV or GeoJSON file with the photos' positions."),
    every: str = typer.Option(None, "--every", help="Frames taken of a video: 1s, 2m (metres of --track) or change. Default: 1s."),
    track: str = typer.Option(None, "--track", help="GPX file that says where a video was, matched by time."),
    tokens: str = typer.Option(None, "--tokens", help="Keep one token a frame by this model, and describe key frames alone."),
    layout: str = typer.Option(
        None,
        "--layout",
        autocompletion=completion.layouts,
        help="Take the database of a set that is laid out so, positions and all; give its folder.",
    ),
    dtype: str = typer.Option("float32", help="How descriptors are stored: float32 or float16."),
    engine: str = typer.Option(
        None,
        help="Search engine: auto (default), flat or int8 (exact), cells or cells:N (photos of the N likeliest places), a faiss "
        'factory string like "IVF1024,PQ64x4fs", or a server: milvus://HOST:PORT/COLLECTION, postgresql://USER@HOST/DATABASE.',
    ),
    cells: str = typer.Option(
        None,
        "--cells",
        help="File of learned cells to tell places by, with or without photos; makes the database where there is none.",
    ),
    allow_null_island: bool = typer.Option(
        False, "--allow-null-island", help="Take latitude 0, longitude 0 for a place instead of a missing fix."
    ),
    keep_local: bool = typer.Option(
        None,
        "--keep-local/--no-keep-local",
        help="Keep local descriptors too, for comparing candidates. Default: where the model has them and all take at most 2 GB.",
    ),
    estimate: bool = typer.Option(False, "--estimate", help="Only say how much work and disk it would take."),
    refresh: bool = typer.Option(False, "--refresh", help="Bring the database up to date with the folders it was made from."),
    refit: bool = typer.Option(False, "--refit", help="Fit the vocabulary on all photos again and describe them again."),
    yes_remove: bool = typer.Option(
        False, "--yes-remove", help="With --refresh or --refit: remove photos also where their whole folder is empty or gone."
    ),
    moved: str = typer.Option(
        None, "--moved", help="OLD=NEW: the photos of folder OLD lie in NEW now; nothing is described again."
    ),
    remove: list[str] = typer.Option([], "--remove", help="Photo to take out of the database. May be repeated."),
    merge: str = typer.Option(None, "--merge", help="Another database to take over; same model and vocabulary."),
    export_npy: str = typer.Option(
        None, "--export-npy", help="Write descriptors.npy, photos.csv and the fitted state to this folder."
    ),
    import_npy: str = typer.Option(None, "--import-npy", help="Make a database from a folder written by --export-npy."),
    copy_to: str = typer.Option(None, "--copy-to", help="Search by this engine from now on: a server's, or the folder's own."),
    prepare_for: str = typer.Option(
        None,
        "--prepare-for",
        autocompletion=completion.scorers,
        help="Keep what this pair scorer needs of the photos, e.g. geowarp.",
    ),
    scorer_option: list[str] = typer.Option([], "--scorer-option", help="With --prepare-for: name=value. May be repeated."),
    check: bool = typer.Option(False, "--check", help="Look through the whole database for damage."),
    no_calibrate: bool = typer.Option(
        False, "--no-calibrate", help="Fit no calibration on the photos where the model comes without one."
    ),
    machines: str = typer.Option(None, "--cluster", help="Describe on a dask cluster: tcp://SCHEDULER:8786, or local:N processes."),
    send_photos: bool = typer.Option(False, "--send-photos", help="With --cluster: workers do not see these folders."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Describe photos and keep them in a database. Run it again to go on after an interruption or to add photos."""
    from whence.localize import build, maintain
    from whence.localize.cells import ENGINE, store_cells
    from whence.localize.machines import opened_machines

    path = load_settings(flags={"database": database}).database
    progress = False if quiet or as_json else None
    named = [merge, export_npy, import_npy, copy_to, prepare_for, moved, None if photos else cells]
    jobs = [bool(photos), refresh, refit, bool(remove), check, *(name is not None for name in named)]
    if sum(jobs) != 1:
        raise BadOption(
            "give photos to index, or one of --refresh, --refit, --moved, --remove, --merge, --export-npy, --import-npy, "
            "--copy-to, --prepare-for, --cells, --check"
        )
    if yes_remove and not (refresh or refit):
        raise BadOption("--yes-remove goes with --refresh or --refit")
    if tokens is not None and (not photos or layout is not None or estimate):
        raise BadOption("--tokens goes with a video or its frames, without --layout and --estimate")
    if prepare_for is not None:
        return _prepare(path, prepare_for, parse_options(scorer_option), show_progress=progress, as_json=as_json)
    if check:
        return _check(path, as_json)
    if remove:
        return _remove(path, remove, as_json)
    if cells is not None and not photos:
        return _give_cells(path, cells, as_json)
    if moved is not None:
        return _move(path, moved, as_json)
    if merge is not None:
        return _say(as_json, {"added": maintain.merge_databases(path, merge), "database": path}, "photos taken over into")
    if export_npy is not None:
        return _say(
            as_json, {"exported": maintain.export_database(path, export_npy), "database": path}, "descriptors exported from"
        )
    if import_npy is not None:
        return _say(
            as_json, {"imported": maintain.import_database(import_npy, path=path), "database": path}, "descriptors imported into"
        )
    if copy_to is not None:
        return _say(as_json, {"copied": maintain.change_engine(path, copy_to), "database": path}, f"rows go to {copy_to} from")
    if refresh or refit:
        job = maintain.refresh_database if refresh else maintain.refit_database
        report = job(path, removes_missing=yes_remove, show_progress=progress)
        return _finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)
    # Of a new database with another model than the cells have, the photos come first: they say which model it is.
    is_told_late = cells is not None and not estimate and model is not None and not build.is_begun(Path(path))
    if cells is not None and not estimate and not is_told_late:
        store_cells(path, cells)
    engine = ENGINE if is_told_late and engine is None else engine
    drive = Thinned(with_frames(photos, path, every=every, track=track), tokens, positions)
    photos = drive.sources
    given = {"model": model, "dtype": dtype, "engine": engine, "model_options": parse_options(option) or None}
    given |= {"keep_local": keep_local, "allow_null_island": allow_null_island or None}
    before = build.stored_options(path) or BuildOptions(model=load_settings().model)
    options = replace(before, **{name: value for name, value in given.items() if value is not None})
    if not (as_json or quiet or estimate):
        from whence.cli.fetch import announce_weights

        announce_weights(options.model, options.model_options)
    if layout is not None:
        report = _index_set(photos, layout, path, options, positions, estimate, show_progress=progress)
        if is_told_late:
            store_cells(path, str(cells))
        return _finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)
    if estimate:
        return _print_plan(build.plan_build(photos, path=path, options=options, positions=positions), as_json)

    def announce(plan: BuildPlan) -> None:
        _check_space(path, plan.size_bytes)
        if not (as_json or quiet):
            print_note(
                f"{plan.num_photos} photos, {plan.num_to_describe} to describe; the database will take {as_size(plan.size_bytes)}"
            )

    given_by = {"path": path, "options": options, "positions": positions, "show_progress": progress, "on_plan": announce}
    with opened_machines(machines, sends_photos=send_photos) as chosen:
        report = build.build_database(photos, machines=chosen, **given_by)
    drive.keep(path, is_quiet=as_json)
    if is_told_late:
        store_cells(path, str(cells))
    return _finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)


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
    """What was done with the database photos of one set. Such a database knows no folders to be refreshed from."""
    from whence.data.evaluation_sets import open_set
    from whence.data.scan import ReadOptions
    from whence.localize.build import build_from_photos
    from whence.models.descriptor import load_model

    if len(sets) != 1 or estimate:
        raise BadOption("--layout takes the folder of one set, and goes without --estimate")
    reading = ReadOptions(show_progress=show_progress, allow_null_island=options.allow_null_island)
    found = open_set(sets[0], layout=layout, positions=positions, options=reading).database
    model = load_model(options.model, options=options.model_options)
    return build_from_photos(found, path=path, model=model, options=options, show_progress=show_progress)


def _finish(report: BuildReport, as_json: bool, *, is_calibrated: bool, show_progress: bool | None) -> int:
    """Print what was done; before, where nothing calibrated answers of this model, fit a calibration on the photos themselves."""
    remark = calibrate_report(report, show_progress=show_progress) if is_calibrated and report.num_described else ""
    _print_report(report, as_json, calibration=remark)
    return 0


def calibrate_report(report: BuildReport, *, show_progress: bool | None) -> str:
    """What came of it, in words; the calibration is kept in the database."""
    from whence.evaluation.confidence import SHARE_OF_DESCRIBING, calibrate_sample
    from whence.index.store import Store
    from whence.localize.calibration_files import store_calibration
    from whence.localize.localizer import Localizer

    with Localizer.open(report.path) as localizer:
        own = calibrate_sample(localizer, max_seconds=SHARE_OF_DESCRIBING * report.seconds, show_progress=show_progress)
    if own.is_new and own.calibration is not None:
        with Store.open(report.path, writable=True) as store:
            store_calibration(store, own.calibration)
        return f"calibrated on {own.reason}"
    if own.calibration is None:
        return f"answers will not be verified: {own.reason}"
    return ""


def _prepare(path: str, scorer: str, options: dict[str, Any], *, show_progress: bool | None, as_json: bool) -> int:
    from whence.localize.prepare import prepare_photos
    from whence.localize.rerank_options import RerankOptions

    report = prepare_photos(path, options=RerankOptions(scorer, scorer_options=options), show_progress=show_progress)
    if as_json:
        print_json({**asdict(report), "skipped": [{"photo": photo, "reason": reason} for photo, reason in report.skipped]})
        return 0
    report_skipped(report.skipped)
    show(
        f"{path}: {report.num_prepared} photos prepared for {scorer} in {report.seconds:.1f} s, {report.num_known} known before; "
        f"the database takes {as_size(report.size_bytes)}"
    )
    return 0


def _remove(path: str, photos: list[str], as_json: bool) -> int:
    """Take photos out; exit code 1 where one of them was not in there."""
    from whence.localize import maintain

    unknown = maintain.unknown_photos(path, photos)
    record = {"removed": maintain.remove_photos(path, photos), "database": path}
    if as_json:
        print_json({**record, "not_there": unknown})
    else:
        _say(False, record, "photos removed from")
        for name in unknown:
            print_error(f"{path} has no photo {name!r}")
    return 1 if unknown else 0


def _give_cells(path: str, file: str, as_json: bool) -> int:
    from whence.localize.cells import store_cells

    given = store_cells(path, file)
    record = {"cells": len(given), "database": path}
    if as_json:
        print_json({**record, "cell_m": given.cell_m, "zone": given.zone, "model": given.model})
        return 0
    return _say(False, record, f"cells of {given.cell_m:g} m, told by {given.model or 'its own model'}, given to")


def _move(path: str, moved: str, as_json: bool) -> int:
    from whence.localize import maintain

    done = maintain.move_photos(path, *split_moved(moved))
    if as_json:
        print_json({"moved": done.num_photos, "there": done.num_there, "database": path})
    else:
        show(as_text(f"{done.num_photos} photos of {path} lie elsewhere now, {done.num_there} of them were found there"))
    return 0


def _check_space(path: str, size_bytes: int) -> None:
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise StoreFull(path, f"the database will take {as_size(size_bytes)}, but only {as_size(free)} are free")


def _check(path: str, as_json: bool) -> int:
    from whence.index.audit import problems
    from whence.index.store import Store

    with Store.open(path) as store:
        found = problems(store)
    if as_json:
        print_json({"database": path, "problems": found})
    else:
        show("\n".join(map(printable, found or [f"{path} is sound"])))
    return 1 if found else 0


def _say(as_json: bool, record: dict[str, object], what: str) -> int:
    if as_json:
        print_json(record)
    else:
        number, path = record.values()
        show(as_text(f"{number} {what} {path}"))
    return 0


def _print_plan(plan: object, as_json: bool) -> int:
    record = asdict(plan)  # type: ignore[call-overload]
    if as_json:
        print_json(record)
    else:
        size = as_size(record["size_bytes"])
        show(f"{record['num_photos']} photos, {record['num_to_describe']} to describe; the database will take about {size}")
    return 0


def _print_report(report: BuildReport, as_json: bool, *, calibration: str) -> None:
    from whence.localize.maintain import HOW_TO_GO_ON

    record = asdict(report)
    if as_json:
        record["skipped"] = [{"photo": path, "reason": reason} for path, reason in record["skipped"]]
        print_json({**record, "calibration": calibration})
        return
    report_skipped(report.skipped)
    report_remarks(report.remarks)
    for missing in report.missing:
        print_note(f"{missing}; its photos are kept. {HOW_TO_GO_ON}")
    changes = ", ".join(f"{record[f'num_{what}']} {what}" for what in ("added", "updated", "removed") if record[f"num_{what}"])
    show(
        f"{printable(record['path'])}: {record['num_photos']} photos, {record['num_with_point']} with coordinates, "
        f"{record['num_descriptors']} descriptors of {record['model']} (vocabulary {record['vocabulary']}), "
        f"{as_size(record['size_bytes'])}\n"
        f"{changes or 'nothing changed'}; {record['num_described']} described in {record['seconds']:.1f} s"
    )
    if calibration:
        print_note(calibration)
