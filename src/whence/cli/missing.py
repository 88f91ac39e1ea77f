"""`whence locate --missing` and `--undo`: places for photos without a geotag, reviewed first, written on demand, taken back."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, replace
from typing import Any

import typer
from rich.table import Table

from whence.cli.answers import note_second_look
from whence.cli.output import from_here, print_json, print_note, report_remarks, report_skipped, show
from whence.data.cells import as_text, printable, safe_cells
from whence.data.geotags import write_gpx
from whence.data.undo import undo_files
from whence.errors import BadOption
from whence.localize.localizer import LocateOptions
from whence.localize.missing import MissingOptions, MissingReport, Proposal, place_missing
from whence.localize.tagging import TagPlan, plan_tags, waypoints_of, write_tags
from whence.runtime import atomic_write
from whence.settings import load_settings
from whence.types import GeoPoint

_COLUMNS = ("photo", "placed_by", "lat", "lon", "radius_m", "heading_deg", "confidence", "best_photo", "before", "after", "reason")


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


def locate_missing(
    folder: str,
    *,
    database: str | None,
    k: int,
    locate: LocateOptions,
    outputs: MissingOutputs,
    writing: Writing,
    allow_null_island: bool = False,
) -> int:
    """List where the folder's photos without a geotag may have been taken; write only what was asked for and confirmed."""
    if writing.kind is None and (writing.copies_to or writing.is_confirmed or writing.include_unverified):
        raise BadOption("--copies-to, --yes and --include-unverified go with --write")
    if writing.kind not in (None, "sidecars", "copies"):
        raise BadOption(f"--write takes sidecars or copies, not {writing.kind!r}")
    if writing.kind is not None and not writing.is_confirmed and not sys.stdin.isatty():
        raise BadOption("--write asks before it writes; without a terminal to ask on, give --yes")
    progress = False if outputs.is_quiet or outputs.as_json else None
    options = MissingOptions(model=load_settings().model, k=k, locate=locate, allow_null_island=allow_null_island)
    report = place_missing(folder, database=database, options=options, show_progress=progress)
    plan = None
    if writing.kind is not None:
        kind: Any = writing.kind
        plan = plan_tags(report, kind=kind, copies_to=writing.copies_to, include_unverified=writing.include_unverified)
    report_skipped(report.skipped)
    report_remarks(report.remarks)
    _write_lists(report, outputs)
    if outputs.as_json:
        for proposal in report.proposals:
            print_json(_as_record(proposal))
    else:
        _show(report)
        note_second_look([proposal.position for proposal in report.proposals], locate)
    return 0 if plan is None else _write(plan, writing, outputs)


def undo(undo_file: str, *, as_json: bool = False) -> int:
    """Remove what a `--write` wrote. Exit code 1 where something was changed since and is kept."""
    undone = undo_files(undo_file)
    if as_json:
        kept = [{"path": entry.path, "reason": entry.reason} for entry in undone.kept]
        print_json({"removed": [str(path) for path in undone.removed], "gone": [str(path) for path in undone.gone], "kept": kept})
    else:
        gone = f", {len(undone.gone)} were gone already" if undone.gone else ""
        show(as_text(f"{len(undone.removed)} files removed{gone}"))
        for entry in undone.kept:
            print_note(f"kept {entry.path}: {entry.reason}")
    return 1 if undone.kept else 0


def _write(plan: TagPlan, writing: Writing, outputs: MissingOutputs) -> int:
    for entry in plan.skipped if not outputs.as_json else ():
        print_note(f"not written: {entry.path}: {entry.reason}")
    what = "sidecars beside the photos" if plan.kind == "sidecars" else f"copies into {from_here(plan.folder)}"
    if not plan.files:
        print_note(f"nothing to write: no {plan.kind}")
        if outputs.as_json:
            print_json({"undo_file": None, "written": [], "skipped": [entry._asdict() for entry in plan.skipped]})
        return 0
    question = f"Write {len(plan.files)} {what}? The photos themselves stay as they are."
    if not writing.is_confirmed and not typer.confirm(printable(question), err=True):
        print_note("nothing was written")
        return 0
    done = write_tags(plan, show_progress=False if outputs.is_quiet or outputs.as_json else None)
    if outputs.as_json:
        skipped = [entry._asdict() for entry in (*plan.skipped, *done.skipped)]
        undo_file = None if done.undo_file is None else str(done.undo_file)
        print_json({"undo_file": undo_file, "written": [str(path) for path in done.written], "skipped": skipped})
    else:
        for entry in done.skipped:
            print_note(f"not written: {entry.path}: {entry.reason}")
        show(as_text(f"{len(done.written)} {plan.kind} written", style="bold"))
        if done.undo_file is not None:
            show(as_text(f"to take them back: whence locate --undo {from_here(done.undo_file)}"))
    return 1 if done.skipped else 0


def _write_lists(report: MissingReport, outputs: MissingOutputs) -> None:
    if outputs.csv_file is not None:
        with atomic_write(outputs.csv_file, "w") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            table.writerows(_csv_row(proposal) for proposal in report.proposals)
    if outputs.gpx_file is not None:
        write_gpx(outputs.gpx_file, waypoints_of(report.proposals))
    if outputs.report_file is not None:
        _write_page(outputs.report_file, report, is_quiet=outputs.is_quiet or outputs.as_json)


def _write_page(path: str, report: MissingReport, *, is_quiet: bool) -> None:
    from whence.evaluation.html import write_page
    from whence.evaluation.page import draw_pairs, page_of_positions

    positions, notes = [], {}
    for proposal in report.proposals:
        name = from_here(report.root / proposal.photo)
        shown = replace(proposal.position, query=name, reason="", point=proposal.point)
        if proposal.placed_by == "time":
            shown = replace(shown, status="located", confidence=None, radius_m=None, heading_deg=None, best_guess=None)
        elif proposal.point is None:
            shown = replace(shown, status="unknown", point=proposal.position.point)
        positions.append(shown)
        notes[name] = f"Placed by {proposal.placed_by}" + (f": {proposal.reason}" if proposal.reason else "")
    title = f"Photos without a geotag in {from_here(report.root)}"
    pictures = draw_pairs(positions, database=report.database, show_progress=False if is_quiet else None)
    write_page(path, page_of_positions(positions, database=report.database, title=title, notes=notes, match_pictures=pictures))


def _as_record(proposal: Proposal) -> dict[str, Any]:
    position, hint = proposal.position, proposal.hint
    best = position.candidates[0] if position.candidates else None
    return {
        "photo": proposal.photo,
        "placed_by": proposal.placed_by,
        "position": _place(proposal.point, radius_m=proposal.radius_m, heading_deg=proposal.heading_deg),
        "is_verified": proposal.is_verified,
        "match": {
            "status": position.status,
            "position": _place(position.point, radius_m=position.radius_m, heading_deg=position.heading_deg),
            "confidence": position.confidence,
            "photo": None if best is None else best.photo,
            "similarity": None if best is None else best.similarity,
            "num_inliers": None if best is None else best.num_inliers,
            "scorer": position.scorer,
        },
        "time": None
        if hint is None
        else {
            "position": _place(hint.point),
            "before": hint.before or None,
            "after": hint.after or None,
            "gap_s": hint.gap_s,
            "apart_m": hint.apart_m,
        },
        "reason": proposal.reason,
    }


def _place(point: GeoPoint | None, *, radius_m: float | None = None, heading_deg: float | None = None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {"lat": point.lat, "lon": point.lon, "radius_m": radius_m, "heading_deg": heading_deg}


def _csv_row(proposal: Proposal) -> list[Any]:
    point, hint, position = proposal.point, proposal.hint, proposal.position
    row = [
        *(proposal.photo, proposal.placed_by, None if point is None else point.lat, None if point is None else point.lon),
        *(proposal.radius_m, proposal.heading_deg, position.confidence),
        position.candidates[0].photo if position.candidates else None,
        *((None, None) if hint is None else (hint.before, hint.after)),
        proposal.reason,
    ]
    return safe_cells(row)


def _show(report: MissingReport) -> None:
    num_missing = len(report.proposals)
    show(as_text(f"{report.num_photos} photos, {report.num_geotagged} with a geotag, {num_missing} without", style="bold"))
    if not num_missing:
        return
    table = Table(show_edge=False, pad_edge=False)
    for name in ("photo", "placed by", "place", "why"):
        table.add_column(name, overflow="fold")
    for one in report.proposals:
        place = "-" if one.point is None else f"{one.point.lat:.6f}, {one.point.lon:.6f}"
        if one.radius_m is not None:
            place += f" within {one.radius_m:.0f} m"
        table.add_row(*map(as_text, (one.photo, one.placed_by, place, one.reason)))
    show(table)
