"""`whence locate`: where were these photos taken?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from whence.cli import completion
from whence.cli.answers import (
    announce_weights,
    note_second_look,
    show_many,
    show_one,
    write_report,
)
from whence.cli.footprints import FootprintOutputs, locate_from_orbit
from whence.cli.output import (
    EXIT_UNKNOWN,
    from_here,
    print_json,
    print_note,
    report_remarks,
    report_skipped,
    set_help,
    write_all,
)
from whence.data.elsewhere import is_elsewhere
from whence.errors import BadOption, NoPhotos, Stopped
from whence.journal.keeping import opened_log
from whence.localize.cells import ENGINE, NO_CELLS, CellLocalizer
from whence.localize.from_orbit import holds_tiles
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.maintain import HOW_TO_GO_ON
from whence.localize.questions import StatedQuestion, parse_around
from whence.localize.records import write_csv, write_geojson, write_places
from whence.localize.retrieve import Around
from whence.localize.sources import missing_folders, source_files
from whence.runtime import check_place
from whence.settings import load_settings, with_assignments
from whence.types import Position, SkippedPhoto


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("locate", help="Say where photos were taken.")(locate)


_SET = typer.Option([], "--set", help=set_help(StatedQuestion))


def locate(
    queries: list[str] = typer.Argument(
        None, help="Photos, folders, globs, or .txt files that list paths."
    ),
    database: str = typer.Option(
        None, "--db", help="Database folder. Default: photos.whence, or the setting `database`."
    ),
    k: int = typer.Option(20, "--k", "-k", help="Candidates per photo."),
    near: str = typer.Option(
        None, "--near", help="Search only around this place: LAT,LON in degrees."
    ),
    within: float = typer.Option(None, "--within", help="Radius of --near in metres."),
    engine: str = typer.Option(
        None,
        "--engine",
        help=(
            "cells: answer with the middle of the likeliest cell of the database's map, without "
            "any photo."
        ),
    ),
    rerank: str = typer.Option(
        None,
        autocompletion=completion.scorers,
        help=(
            "Pair scorer that compares the candidates with the photo (default inliers), or chain: "
            "geowarp:100,inliers:10."
        ),
    ),
    no_verify: bool = typer.Option(
        False, "--no-verify", help="Give the best match, whether or not it is the place."
    ),
    assignments: list[str] = _SET,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per photo."),
    csv_file: str = typer.Option(None, "--csv", help="Also write the answers to this CSV file."),
    geojson_file: str = typer.Option(
        None, "--geojson", help="Also write the answers to this GeoJSON file, for a map."
    ),
    report: str = typer.Option(
        None,
        "--report",
        help="Also write a page with map, photos and candidates to this HTML file.",
    ),
    gpx_file: str = typer.Option(None, "--gpx", help="Also write the places to this GPX file."),
    sequence: int = typer.Option(
        None,
        "--sequence",
        help=(
            "Track a video, or a folder of frames in order, of which so many at a time ask "
            "together."
        ),
    ),
    georeference: str = typer.Option(
        None,
        "--georeference",
        help=(
            "With a database of tiles: write GeoTIFF, polygon, world file and points to this "
            "folder."
        ),
    ),
    journal: str = typer.Option(
        None,
        "--journal",
        help="Also append every answer to this file, which whence journal answers questions from.",
    ),
    weather: str = typer.Option(
        "", "--weather", help="With --journal: a word for the weather, as rain or night."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Answer each photo with a position, or with the database photo that shows the place. A single
    photo without answer exits 3."""
    fields = with_assignments(StatedQuestion(), assignments)
    options = fields.options(rerank, is_verified=not no_verify)
    if engine is not None:
        _check_cells(engine, options)
    announce_weights(options)
    if options.rerank is not None and options.rerank.stages:
        k = max(k, options.rerank.num_candidates)
    if not queries:
        raise typer.BadParameter(
            "name the photos to locate; photos of a folder that lack a geotag are placed by "
            "whence tag FOLDER"
        )
    around = parse_around(near, within)
    if sequence is not None:
        from whence.cli.tracks import TrackOutputs, locate_drives

        if report is not None or engine is not None:
            raise BadOption(
                "--sequence gives a track: it goes with --json, --csv, --gpx and --geojson, not "
                "with --report or --engine"
            )
        track_outputs = TrackOutputs(as_json, csv_file, gpx_file, geojson_file, quiet)
        ways = {"length": sequence, "k": k, "around": around, "options": options}
        with opened_log(journal, weather) as log:
            return locate_drives(
                queries,
                database,
                track_outputs,
                every=fields.every,
                is_smoothed=fields.is_smoothed,
                ways=ways,
                log=log,
            )
    if fields.every is not None or not fields.is_smoothed:
        raise BadOption("every and is_smoothed go with --sequence")
    files_wanted = [file for file in (report, csv_file, gpx_file, geojson_file) if file is not None]
    for file in files_wanted:
        check_place(file)
    files, skipped = query_files(queries)
    chosen_database = load_settings(flags={"database": database}).database
    with opened_log(journal, weather) as log, Localizer.open(chosen_database) as localizer:
        for folder in missing_folders(
            localizer.photos,
            source_files(localizer.store.options.get("sources", []), localizer.store.path),
        ):
            print_note(f"{folder}: candidates cannot be compared with the photo. {HOW_TO_GO_ON}")
        report_skipped(skipped)
        if holds_tiles(localizer.photos) and not no_verify:
            track_outputs = FootprintOutputs(as_json, geojson_file, georeference, quiet)
            chosen = dict(fields.scorer_options)
            return locate_from_orbit(
                localizer,
                files,
                track_outputs,
                num_candidates=fields.num_candidates,
                options=chosen,
            )
        if georeference is not None:
            raise BadOption(
                "--georeference goes with a database of tiles, and not with --no-verify"
            )
        # A database of cells alone can answer in no other way.
        cells = (
            _cells_of(localizer)
            if engine is not None
            else None
            if len(localizer.photos)
            else localizer.cells
        )
        positions: list[Position] = []
        is_read = True
        stopped: KeyboardInterrupt | None = None
        try:
            ways = {
                "k": k,
                "around": around,
                "options": options,
                "is_quiet": quiet or as_json,
                "cells": cells,
            }
            for position in _answers(localizer, files, skipped, **ways):
                positions.append(position)
                log.add([position], localizer=localizer)
                if as_json and is_read:
                    # Each as soon as it is known: who stops this keeps what was answered.
                    is_read = _print_while_read(position, has_files=any(files_wanted))
        except KeyboardInterrupt as stop:
            stopped = stop
        database_photos = localizer.photos
        scorer = (
            None
            if options.rerank is None or cells is not None
            else localizer.prepared(options.rerank).scorer
        )
    if not as_json and len(files) == 1 and positions:
        show_one(positions[0], database_photos.root)
    elif not as_json and positions:
        show_many(positions, database_photos.root)
        for why in dict.fromkeys(
            one.reason
            for one in positions
            if one.reason and one.status != "unknown" and not one.is_verified
        ):
            print_note(why)
    if not as_json:
        note_second_look(positions, options)
    outputs = {
        report: lambda file: write_report(
            file,
            positions,
            database_photos,
            scorer=scorer,
            model=localizer.model,
            is_quiet=quiet or as_json,
        ),
        csv_file: lambda file: write_csv(file, positions),
        gpx_file: lambda file: write_places(file, positions),
        geojson_file: lambda file: write_geojson(file, positions),
    }
    code = write_all([partial(job, file) for file, job in outputs.items() if file is not None])
    if stopped is not None:
        raise Stopped(
            f"{len(positions)} of {len(files)} photos were answered, and those answers are kept; "
            "ask for the others again"
        ) from stopped
    return code or (EXIT_UNKNOWN if len(positions) == 1 and positions[0].status == "unknown" else 0)


def _answers(
    localizer: Localizer,
    files: Sequence[Path],
    skipped: Sequence[SkippedPhoto],
    *,
    k: int,
    around: Around | None,
    options: LocateOptions,
    is_quiet: bool,
    cells: CellLocalizer | None,
) -> Iterator[Position]:
    """One answer after the other, by cells where they are given; a single photo that cannot be read
    is an error."""
    if cells is not None:
        if len(files) == 1 and not skipped:
            cells.model.read(files[0])
        yield from cells.locate_many(
            files, k=k, around=around, show_progress=False if is_quiet else None
        )
    elif len(files) == 1 and not skipped:
        yield localizer.locate(files[0], k=k, around=around, options=options)
    else:
        show_progress = False if is_quiet else None
        yield from localizer.locate_many(
            files, k=k, around=around, options=options, show_progress=show_progress
        )


def _check_cells(engine: str, options: LocateOptions) -> None:
    """Raises `BadOption` for another engine than cells, and for what compares photos beside it."""
    if engine != ENGINE:
        raise BadOption(
            "a database is searched by the engine it was made with, see whence index --engine; "
            f"here {ENGINE!r} alone"
        )
    if options != LocateOptions():
        raise BadOption(
            "--engine cells compares no photos: it goes with --near, --k and the outputs alone"
        )


def _cells_of(localizer: Localizer) -> CellLocalizer:
    """What tells places by cells in a database. Raises `BadOption` where nothing does."""
    if localizer.cells is None:
        raise BadOption(f"{str(localizer.store.path)!r}: {NO_CELLS}")
    return localizer.cells


def _print_while_read(position: Position, *, has_files: bool) -> bool:
    """Print an answer; whether anybody reads them. Nobody ends the program, unless there are files
    to write for all the same."""
    try:
        print_json(position.to_dict())
    except SystemExit:
        if not has_files:
            raise
        return False
    return True


def query_files(queries: list[str]) -> tuple[list[Path], tuple[Any, ...]]:
    """The files to place, single files as they were given; and what was left out. Raises
    `NoPhotos`."""
    if all(Path(query).is_file() and not query.lower().endswith(".txt") for query in queries):
        return [Path(query) for query in queries], ()
    from whence.data.scan import scan_photos

    photos = scan_photos(*queries)
    if not len(photos):
        reason = f"; {photos.skipped[0].path}: {photos.skipped[0].reason}" if photos.skipped else ""
        left_out = "".join(f"; {remark}" for remark in photos.remarks)
        raise NoPhotos(f"no photos to locate under {', '.join(queries)}{reason}{left_out}")
    report_remarks(photos.remarks)
    return [
        file if is_elsewhere(file) else Path(from_here(file))
        for file in map(photos.file, range(len(photos)))
    ], photos.skipped
