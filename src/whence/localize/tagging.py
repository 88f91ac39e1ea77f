"""Writing proposed places: into sidecars beside the photos, or into copies elsewhere. Originals are
never opened for writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from whence.data.exif_gps import with_gps_tags
from whence.data.geotags import Geotag, Waypoint, sidecar_of, xmp_sidecar
from whence.data.sidecars import find_sidecar
from whence.data.undo import PlannedFile, Written, write_files
from whence.errors import BadOption
from whence.localize.missing import MissingReport, Proposal
from whence.runtime import progress
from whence.types import SkippedPhoto

TagKind = Literal["sidecars", "copies"]


@dataclass(frozen=True, slots=True)
class TagPlan:
    """What would be written, and under which folder."""

    kind: TagKind
    folder: Path
    files: tuple[PlannedFile, ...]
    skipped: tuple[SkippedPhoto, ...]
    """Photos that are left out, and why."""


def plan_tags(
    report: MissingReport,
    *,
    kind: TagKind,
    copies_to: str | Path | None = None,
    include_unverified: bool = False,
) -> TagPlan:
    """Which files would be written. Matches that nothing has verified take part only with
    `include_unverified`.

    Photos that have a sidecar already are left out, of whatever kind it is: a new one could hide
    what it says. Raises `BadOption` for copies without a folder, or into the photos' own folder.
    """
    if kind == "copies":
        if copies_to is None:
            raise BadOption("--write copies needs --copies-to FOLDER")
        folder = Path(copies_to)
        if folder.resolve().is_relative_to(report.root.resolve()):
            raise BadOption(
                f"copies go outside the photos' own folder {str(report.root)!r}, not to "
                f"{str(copies_to)!r}"
            )
    elif kind == "sidecars":
        folder = report.root
    else:
        raise BadOption(f"--write takes sidecars or copies, not {kind!r}")
    files: list[PlannedFile] = []
    skipped: list[SkippedPhoto] = []
    for proposal in report.proposals:
        reason = _reason_to_skip(proposal, report, kind, include_unverified)
        if reason:
            skipped.append(SkippedPhoto(proposal.photo, reason))
        else:
            files.append(_planned(proposal, report, kind, folder))
    return TagPlan(kind, folder, tuple(files), tuple(skipped))


def write_tags(plan: TagPlan, *, show_progress: bool | None = None) -> Written:
    """The files of a plan, written; `whence.data.undo.undo_files` takes them back. Raises
    `UnwritableFile` where nothing can be written."""
    with progress(f"writing {plan.kind}", total=len(plan.files), show=show_progress) as advance:
        return write_files(plan.files, folder=plan.folder, advance=advance)


def waypoints_of(proposals: Iterable[Proposal]) -> tuple[Waypoint, ...]:
    """The places proposed, for a GPX file."""
    return tuple(
        Waypoint(
            one.photo,
            one.point,
            one.time,
            f"placed by {one.placed_by}" + (f": {one.reason}" if one.reason else ""),
        )
        for one in proposals
        if one.point is not None
    )


def _reason_to_skip(
    proposal: Proposal, report: MissingReport, kind: TagKind, include_unverified: bool
) -> str:
    if proposal.point is None:
        return proposal.reason
    if not proposal.is_verified and not include_unverified:
        return "only an unverified match speaks for its place"
    sidecar = find_sidecar(report.root / proposal.photo) if kind == "sidecars" else None
    return "" if sidecar is None else f"it has a sidecar already, {sidecar.name}"


def _planned(proposal: Proposal, report: MissingReport, kind: TagKind, folder: Path) -> PlannedFile:
    assert proposal.point is not None
    photo = report.root / proposal.photo
    tag = Geotag(proposal.point, proposal.heading_deg, proposal.radius_m)
    if kind == "sidecars":
        sidecar: Callable[[], bytes] = partial(_sidecar, photo, tag)
        return PlannedFile(sidecar_of(photo), sidecar)
    return PlannedFile(folder / proposal.photo, partial(with_gps_tags, photo, tag))


def _sidecar(photo: Path, tag: Geotag) -> bytes:
    """The sidecar's bytes. Raises `UnreadableImage` where the photo has gone meanwhile: no sidecar
    without its photo."""
    from whence.data.images import image_header

    image_header(photo)
    return xmp_sidecar(tag)
