"""`whence tag`: places for photos without a geotag, reviewed first, written on demand;
`whence undo` takes them back."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from whence.cli import completion
from whence.cli.answers import announce_weights, note_second_look
from whence.cli.output import (
    from_here,
    print_json,
    print_note,
    report_remarks,
    report_skipped,
    show,
    show_table,
)
from whence.data.fields import as_text, printable
from whence.data.geotags import write_gpx
from whence.errors import BadOption
from whence.localize.along_track import TrackOptions
from whence.localize.missing import MissingOptions, MissingReport, Proposal, place_missing
from whence.localize.questions import locate_options
from whence.localize.records import proposal_record, write_proposals
from whence.localize.tagging import TagPlan, plan_tags, waypoints_of, write_tags
from whence.localize.unknown import AUTO
from whence.settings import load_settings


@dataclass(frozen=True, slots=True)
class MissingOutputs:
    """Where the list goes."""

    as_json: bool = False
    csv_file: str | None = None
    gpx_file: str | None = None
    report_file: str | None = None
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Writing:
    """What is written beside the list, if anything."""

    kind: str | None = None
    copies_to: str | None = None
    is_confirmed: bool = False
    include_unverified: bool = False


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "tag",
        help=(
            "Place the photos of a folder that lack a geotag; list them, and write what is asked "
            "for."
        ),
    )(tag)


def tag(
    folder: str = typer.Argument(..., help="Folder of photos, of which some lack a geotag."),
    database: str = typer.Option(
        None,
        "--db",
        help="Database of photos with places. Default: the folder's own photos that have a geotag.",
    ),
    track: str = typer.Option(
        None,
        "--track",
        help="GPX file of where the camera was: places photos before anything else.",
    ),
    shift: str = typer.Option(
        "auto",
        "--shift",
        help=(
            "With --track: seconds to add to the photos' clocks, or auto, which finds them by "
            "known places."
        ),
    ),
    k: int = typer.Option(20, "--k", "-k", help="Candidates per photo."),
    rerank: str = typer.Option(
        None, autocompletion=completion.scorers, help="Pair scorer or chain, as of whence locate."
    ),
    no_verify: bool = typer.Option(
        False, "--no-verify", help="Propose the best match, whether or not it is the place."
    ),
    min_confidence: float = typer.Option(None, help="Probability from which a match is an answer."),
    when_unknown: str = typer.Option(
        AUTO, autocompletion=completion.second_looks, help="As of whence locate."
    ),
    write: str = typer.Option(
        None, "--write", help="Write 'sidecars' (XMP) or 'copies'; asks first. Default: list only."
    ),
    copies_to: str = typer.Option(None, "--copies-to", help="Folder for --write copies."),
    include_unverified: bool = typer.Option(
        False, "--include-unverified", help="With --write: matches nothing verified, too."
    ),
    yes: bool = typer.Option(False, "--yes", help="With --write: do not ask."),
    allow_null_island: bool = typer.Option(
        False,
        "--allow-null-island",
        help="Take latitude 0, longitude 0 for a place instead of a missing fix.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per photo."),
    csv_file: str = typer.Option(None, "--csv", help="Also write the list to this CSV file."),
    gpx_file: str = typer.Option(None, "--gpx", help="Also write the places to this GPX file."),
    report: str = typer.Option(
        None,
        "--report",
        help="Also write a page with map, photos and candidates to this HTML file.",
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """List where the folder's photos without a geotag may have been taken; write only what was
    asked for and confirmed."""
    locate = locate_options(rerank, is_verified=not no_verify, min_confidence=min_confidence)
    locate = replace(locate, when_unknown=when_unknown)
    announce_weights(locate)
    if locate.rerank is not None and locate.rerank.stages:
        k = max(k, locate.rerank.num_candidates)
    outputs = MissingOutputs(as_json, csv_file, gpx_file, report, quiet)
    writing = Writing(write, copies_to, yes, include_unverified)
    if writing.kind is None and (
        writing.copies_to or writing.is_confirmed or writing.include_unverified
    ):
        raise BadOption("--copies-to, --yes and --include-unverified go with --write")
    if writing.kind not in (None, "sidecars", "copies"):
        raise BadOption(f"--write takes sidecars or copies, not {writing.kind!r}")
    if writing.kind is not None and not writing.is_confirmed and not sys.stdin.isatty():
        raise BadOption("--write asks before it writes; without a terminal to ask on, give --yes")
    progress = False if outputs.is_quiet or outputs.as_json else None
    options = MissingOptions(
        model=load_settings().model,
        k=k,
        locate=locate,
        allow_null_island=allow_null_island,
        track=_track(track, shift),
    )
    found = place_missing(folder, database=database, options=options, show_progress=progress)
    plan = None
    if writing.kind is not None:
        kind: Any = writing.kind
        plan = plan_tags(
            found,
            kind=kind,
            copies_to=writing.copies_to,
            include_unverified=writing.include_unverified,
        )
    report_skipped(found.skipped)
    report_remarks(found.remarks)
    _write_lists(found, outputs)
    if outputs.as_json:
        for proposal in found.proposals:
            print_json(proposal_record(proposal))
    else:
        _show(found)
        note_second_look([proposal.position for proposal in found.proposals], locate)
    return 0 if plan is None else _write(plan, writing, outputs)


def _track(file: str | None, shift: str) -> TrackOptions | None:
    """The track of `--track` and `--shift`. Raises `BadOption`."""
    if file is None:
        if shift != AUTO:
            raise BadOption("--shift goes with --track FILE")
        return None
    if shift == AUTO:
        return TrackOptions(Path(file))
    try:
        seconds = float(shift)
    except ValueError:
        seconds = math.nan
    if not abs(seconds) <= 10 * 366 * 86_400:
        raise BadOption(f"--shift takes auto or seconds, as -433, not {shift!r}")
    return TrackOptions(Path(file), seconds)


def _write(plan: TagPlan, writing: Writing, outputs: MissingOutputs) -> int:
    for entry in plan.skipped if not outputs.as_json else ():
        print_note(f"not written: {entry.path}: {entry.reason}")
    what = (
        "sidecars beside the photos"
        if plan.kind == "sidecars"
        else f"copies into {from_here(plan.folder)}"
    )
    if not plan.files:
        print_note(f"nothing to write: no {plan.kind}")
        if outputs.as_json:
            print_json(
                {
                    "undo_file": None,
                    "written": [],
                    "skipped": [entry._asdict() for entry in plan.skipped],
                }
            )
        return 0
    question = f"Write {len(plan.files)} {what}? The photos themselves stay as they are."
    if not writing.is_confirmed and not typer.confirm(printable(question), err=True):
        print_note("nothing was written")
        return 0
    done = write_tags(plan, show_progress=False if outputs.is_quiet or outputs.as_json else None)
    if outputs.as_json:
        skipped = [entry._asdict() for entry in (*plan.skipped, *done.skipped)]
        undo_file = None if done.undo_file is None else str(done.undo_file)
        print_json(
            {
                "undo_file": undo_file,
                "written": [str(path) for path in done.files],
                "skipped": skipped,
            }
        )
    else:
        for entry in done.skipped:
            print_note(f"not written: {entry.path}: {entry.reason}")
        show(as_text(f"{len(done.files)} {plan.kind} written", style="bold"))
        if done.undo_file is not None:
            show(as_text(f"to take them back: whence undo {from_here(done.undo_file)}"))
    return 1 if done.skipped else 0


def _write_lists(report: MissingReport, outputs: MissingOutputs) -> None:
    if outputs.csv_file is not None:
        write_proposals(outputs.csv_file, report.proposals)
    if outputs.gpx_file is not None:
        write_gpx(outputs.gpx_file, waypoints_of(report.proposals))
    if outputs.report_file is not None:
        _write_page(outputs.report_file, report, is_quiet=outputs.is_quiet or outputs.as_json)


def _write_page(path: str, report: MissingReport, *, is_quiet: bool) -> None:
    from whence.evaluation.drawings import draw_pairs
    from whence.evaluation.html import write_page
    from whence.evaluation.page import page_of_positions

    positions, notes = [], {}
    for proposal in report.proposals:
        name = from_here(report.root / proposal.photo)
        shown = replace(proposal.position, query=name, reason="", point=proposal.point)
        if proposal.placed_by in ("track", "time"):
            shown = replace(
                shown,
                status="located",
                confidence=None,
                radius_m=None,
                heading_deg=None,
                best_guess=None,
            )
        elif proposal.point is None:
            shown = replace(shown, status="unknown", point=proposal.position.point)
        positions.append(shown)
        notes[name] = f"Placed by {_evidence(proposal)}" + (
            f": {proposal.reason}" if proposal.reason else ""
        )
    title = f"Photos without a geotag in {from_here(report.root)}"
    pictures = draw_pairs(
        positions, database=report.database, show_progress=False if is_quiet else None
    )
    write_page(
        path,
        page_of_positions(
            positions, database=report.database, title=title, notes=notes, match_pictures=pictures
        ),
    )


def _evidence(proposal: Proposal) -> str:
    """What speaks for a place, the strongest first; or what became of it."""
    return ", ".join(proposal.evidence) if proposal.placed_by == "track" else proposal.placed_by


def _show(report: MissingReport) -> None:
    num_missing = len(report.proposals)
    show(
        as_text(
            (
                f"{report.num_photos} photos, {report.num_geotagged} with a geotag, {num_missing} "
                "without"
            ),
            style="bold",
        )
    )
    if not num_missing:
        return
    rows = []
    for one in report.proposals:
        place = "-" if one.point is None else f"{one.point.lat:.6f}, {one.point.lon:.6f}"
        if one.radius_m is not None:
            place += f" within {one.radius_m:.0f} m"
        rows.append((one.photo, _evidence(one), place, one.reason))
    show_table(("photo", "placed by", "place", "why"), rows)
