"""`whence database`: keep a database that is there. Making and extending it is `whence index`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from whence.cli import completion
from whence.cli.index import finish
from whence.cli.output import print_error, print_json, report_skipped, show
from whence.data.fields import as_size, as_text, printable
from whence.errors import BadOption
from whence.settings import load_settings, parse_options

_DATABASE = typer.Option(
    None, "--db", help="Database folder. Default: photos.whence, or the setting `database`."
)
_JSON = typer.Option(False, "--json", help="Print one JSON object instead of text.")
_QUIET = typer.Option(False, "--quiet", "-q", help="No progress bar.")
_YES = typer.Option(
    False, "--yes-remove", help="Remove photos also where their whole folder is empty or gone."
)
_NO_CALIBRATE = typer.Option(
    False,
    "--no-calibrate",
    help="Fit no calibration on the photos where the model comes without one.",
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(
        help="Keep a database: follow its folders, move, merge, exchange, check it.",
        no_args_is_help=True,
    )
    group.command("refresh", help="Bring a database up to date with the folders it was made from.")(
        refresh
    )
    group.command("refit", help="Fit the vocabulary on all photos again, and describe them again.")(
        refit
    )
    group.command("move", help="Say where photos lie now; nothing is described again.")(move)
    group.command("remove", help="Take photos out of a database.")(remove)
    group.command("merge", help="Take over the photos of another database.")(merge)
    group.command("export", help="Write descriptors, photos and fitted state for other programs.")(
        export
    )
    group.command("import", help="Make a database from a folder that export wrote.")(import_)
    group.command(
        "copy-to", help="Search by another engine from now on: a server's, or the folder's own."
    )(copy_to)
    group.command("prepare", help="Keep what a pair scorer needs of the photos.")(prepare)
    group.command("check", help="Look through a whole database for damage.")(check)
    app.add_typer(group, name="database")


def refresh(
    database: str = _DATABASE,
    yes_remove: bool = _YES,
    no_calibrate: bool = _NO_CALIBRATE,
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """New, changed and vanished photos of the folders are taken over."""
    from whence.localize.maintain import refresh_database

    progress = False if quiet or as_json else None
    report = refresh_database(_path(database), removes_missing=yes_remove, show_progress=progress)
    return finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)


def refit(
    database: str = _DATABASE,
    yes_remove: bool = _YES,
    no_calibrate: bool = _NO_CALIBRATE,
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """The old state stays in use until the new one is complete."""
    from whence.localize.maintain import refit_database

    progress = False if quiet or as_json else None
    report = refit_database(_path(database), removes_missing=yes_remove, show_progress=progress)
    return finish(report, as_json, is_calibrated=not no_calibrate, show_progress=progress)


def move(
    old: str = typer.Argument(..., help="Folder that the photos lay in."),
    new: str = typer.Argument(..., help="Folder that they lie in now."),
    database: str = _DATABASE,
    as_json: bool = _JSON,
) -> int:
    """The photos of the folder OLD lie in NEW now."""
    from whence.localize.maintain import move_photos

    if not old or not new:
        raise BadOption("whence database move takes two folders, OLD and NEW")
    path = _path(database)
    done = move_photos(path, old, new)
    if as_json:
        print_json({"moved": done.num_photos, "there": done.num_there, "database": path})
    else:
        show(
            as_text(
                f"{done.num_photos} photos of {path} lie elsewhere now, {done.num_there} of them "
                "were found there"
            )
        )
    return 0


def remove(
    photos: list[str] = typer.Argument(..., help="Photos of the database, by their paths."),
    database: str = _DATABASE,
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Take photos out; exit code 1 where one of them was not in there."""
    from whence.localize import maintain

    path = _path(database)
    unknown = maintain.unknown_photos(path, photos)
    record = {"removed": maintain.remove_photos(path, photos), "database": path}
    if as_json:
        print_json({**record, "not_there": unknown})
    else:
        _say(False, record, "photos removed from")
        for name in unknown:
            print_error(f"{path} has no photo {name!r}")
    return 1 if unknown else 0


def merge(
    other: str = typer.Argument(..., help="Another database, of the same model and vocabulary."),
    database: str = _DATABASE,
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Take over another database's photos; the other one stays as it is."""
    from whence.localize.maintain import merge_databases

    path = _path(database)
    return _say(
        as_json, {"added": merge_databases(path, other), "database": path}, "photos taken over into"
    )


def export(
    folder: str = typer.Argument(
        ..., help="Folder for descriptors.npy, photos.csv and the fitted state, or what --for says."
    ),
    database: str = _DATABASE,
    program: str = typer.Option(
        None,
        "--for",
        help=(
            "hloc: HDF5 files of descriptors and kept keypoints, positions for COLMAP's aligner; "
            "kapture: a folder in its format."
        ),
    ),
    root: str = typer.Option(None, "--root", help="With --for: the folder photos are named from."),
    pairs: str = typer.Option(
        None, "--pairs", help="With --for: pairs (.txt) whose keypoints are matched."
    ),
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Write what other programs read."""
    path = _path(database)
    if program is None:
        from whence.localize.maintain import export_database

        if root is not None or pairs is not None:
            raise BadOption("--root and --pairs go with --for hloc or kapture")
        return _say(
            as_json,
            {"exported": export_database(path, folder), "database": path},
            "descriptors exported from",
        )
    from whence.localize.programs import export_for

    report = export_for(program, path, folder, root=root, pairs=pairs)
    if as_json:
        print_json({**report._asdict(), "database": path})
    else:
        show(as_text(f"{report}: {folder}"))
    return 0


def import_(
    folder: str = typer.Argument(
        ..., help="What whence database export wrote, kapture's folder, or hloc's .h5 file."
    ),
    database: str = _DATABASE,
    photos: str = typer.Option(
        None, "--photos", help="The folder that an .h5 file, or kapture's, names photos from."
    ),
    model: str = typer.Option(
        None,
        "--model",
        autocompletion=completion.models,
        help="Of another program's descriptors: the model that made them.",
    ),
    positions: str = typer.Option(
        None, "--positions", help="With --model: CSV or GeoJSON file with the photos' positions."
    ),
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Make a database of descriptors that are there."""
    from whence.localize.programs import import_descriptors

    path = _path(database)
    num = import_descriptors(folder, path=path, photos=photos, model=model, positions=positions)
    return _say(as_json, {"imported": num, "database": path}, "descriptors imported into")


def copy_to(
    engine: str = typer.Argument(
        ..., help="milvus://HOST:PORT/COLLECTION, postgresql://USER@HOST/DATABASE, auto, flat, ..."
    ),
    database: str = _DATABASE,
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Copy the rows to an engine that finds candidates from now on; the table that was used before
    stays."""
    from whence.localize.maintain import change_engine

    path = _path(database)
    return _say(
        as_json,
        {"copied": change_engine(path, engine), "database": path},
        f"rows go to {engine} from",
    )


def prepare(
    scorer: str = typer.Argument(
        ..., autocompletion=completion.scorers, help="Pair scorer, as geowarp."
    ),
    database: str = _DATABASE,
    option: list[str] = typer.Option(
        [], "--option", help="Scorer option as name=value. May be repeated."
    ),
    as_json: bool = _JSON,
    quiet: bool = _QUIET,
) -> int:
    """Make once what comparing candidates needs of each photo."""
    from whence.localize.prepare import prepare_photos
    from whence.localize.rerank_options import RerankOptions

    path = _path(database)
    chosen = RerankOptions(scorer, scorer_options=parse_options(option))
    report = prepare_photos(path, options=chosen, show_progress=False if quiet or as_json else None)
    if as_json:
        print_json(
            {
                **asdict(report),
                "skipped": [{"photo": photo, "reason": reason} for photo, reason in report.skipped],
            }
        )
        return 0
    report_skipped(report.skipped)
    show(
        f"{path}: {report.num_prepared} photos prepared for {scorer} in {report.seconds:.1f} s, "
        f"{report.num_known} known before; the database takes {as_size(report.size_bytes)}"
    )
    return 0


def check(database: str = _DATABASE, as_json: bool = _JSON, quiet: bool = _QUIET) -> int:
    """Name what is damaged; exit code 1 where something is."""
    from whence.index.audit import problems
    from whence.index.store import Store

    path = _path(database)
    with Store.open(path) as store:
        found = problems(store)
    if as_json:
        print_json({"database": path, "problems": found})
    else:
        show("\n".join(map(printable, found or [f"{path} is sound"])))
    return 1 if found else 0


def _path(database: str | None) -> str:
    return load_settings(flags={"database": database}).database


def _say(as_json: bool, record: dict[str, object], what: str) -> int:
    if as_json:
        print_json(record)
    else:
        number, path = record.values()
        show(as_text(f"{number} {what} {path}"))
    return 0
