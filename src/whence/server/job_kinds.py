"""What jobs do: describe photos that were added, place a folder's photos or a video's frames,
propose places for review."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whence.data.scan import list_photos
from whence.data.undo import Undone, undo_files
from whence.data.videos import Video
from whence.errors import BadOption, NoPhotos, StoreLocked, UnknownName
from whence.localize.build import DESCRIBING, build_database
from whence.localize.localizer import LOCATING, LocateOptions
from whence.localize.maintain import remove_photos
from whence.localize.missing import MissingOptions, MissingReport, Proposal, place_missing
from whence.localize.records import proposal_record
from whence.localize.tagging import plan_tags, write_tags
from whence.localize.tracking import TrackPoint
from whence.runtime import Watcher, in_batches, watching
from whence.server.jobs import Job, JobFolder, Progress, Work
from whence.server.open_databases import OpenDatabase, OpenDatabases
from whence.server.questioning import ask_batch, options_of
from whence.server.terms import Terms
from whence.types import GeoPoint, Position

_BATCH = 4
_LOCK_TRIES = 40


class JobKinds:
    """The work of each kind of job, on the databases and folders of one service."""

    def __init__(self, terms: Terms, databases: OpenDatabases, folder: JobFolder) -> None:
        self.terms, self.databases, self.folder = terms, databases, folder

    def work_of(self, job: Job) -> Work:
        """The work of a job. Raises `UnknownName`."""
        kinds: dict[str, Callable[[Job, Progress], Mapping[str, Any]]] = {
            "add": self._add,
            "remove": self._remove,
            "folder": self._folder,
            "video": self._video,
            "tag": self._tag,
        }
        if job.kind not in kinds:
            raise UnknownName("kind of job", job.kind, kinds)
        return lambda progress: kinds[job.kind](job, progress)

    def photos_folder(self, database: str) -> Path:
        """Where photos that were added to a database lie."""
        return Path(self.terms.state) / "photos" / database

    def root_of(self, name: str) -> Path:
        """The folder of a name. Raises `UnknownName`."""
        if name not in self.terms.folders:
            raise UnknownName("folder", name[:64], self.terms.folders)
        return Path(self.terms.folders[name])

    def _add(self, job: Job, progress: Progress) -> Mapping[str, Any]:
        database = self.databases.get(job.database)
        folder = self.photos_folder(job.database)
        wanted = list(job.options.get("photos", ()))
        progress.note(0, len(wanted))
        with watching(_noted(progress, DESCRIBING)):
            report = _patient(lambda: build_database([folder], path=database.path), progress)
        known = set(database.localizer.photos.columns["content"].tolist())
        missing = [one for one in wanted if one.encode() not in known]
        progress.note(len(wanted))
        reasons = {Path(entry.path).stem: entry.reason for entry in report.skipped}
        not_added = [
            {"id": one, "reason": reasons.get(one, "it was removed again")} for one in missing
        ]
        return {"num_added": len(wanted) - len(missing), "not_added": not_added}

    def _remove(self, job: Job, progress: Progress) -> Mapping[str, Any]:
        database = self.databases.get(job.database)
        photos = database.localizer.photos
        gone = set(job.options.get("photos", ()))
        rows = [
            row
            for row, content in enumerate(photos.columns["content"].tolist())
            if content.decode() in gone
        ]
        progress.note(0, len(gone))
        # The service's own files first: what is left of the folder never brings a photo back.
        for id in gone:
            for file in self.photos_folder(job.database).glob(f"{id}.*"):
                file.unlink(missing_ok=True)
        names = [photos.paths[row] for row in rows]
        num = _patient(lambda: remove_photos(database.path, names), progress) if names else 0
        progress.note(len(gone))
        return {"num_removed": num}

    def _folder(self, job: Job, progress: Progress) -> Mapping[str, Any]:
        root = self.root_of(job.options["folder"])
        files = files_inside(root)
        if not files:
            raise NoPhotos(f"no photos in the folder {job.options['folder']!r}")
        database, begun = self.databases.get(job.database), len(self.folder.results(job.id))
        # A line that was cut off with its process is written again.
        self.folder.keep_results(job.id, self.folder.results(job.id))
        progress.note(begun, len(files))
        for batch in in_batches(files[begun:], _BATCH):
            sources = [(str(file.relative_to(root)), file) for file in batch]
            for record in _asked(database, sources, job.options):
                self.folder.append_result(job.id, record)
                begun += 1
            progress.note(begun)
        statuses = [record["status"] for record in self.folder.results(job.id)]
        return {status: statuses.count(status) for status in ("located", "matched", "unknown")}

    def _video(self, job: Job, progress: Progress) -> Mapping[str, Any]:
        file = Path(self.terms.state) / "videos" / f"{job.id}.video"
        database = self.databases.get(job.database)
        every_s, length = float(job.options.get("every_s", 1.0)), int(job.options.get("length", 5))
        options = options_of(job.options)
        tracker = database.localizer.track(length=length, options=options)
        points: list[TrackPoint] = []
        with Video(file) as video:
            following = 0.0
            for number, frame in enumerate(video.frames()):
                if frame.seconds + 1e-6 < following:
                    continue
                following = frame.seconds + every_s
                name = f"{job.options.get('name', 'video')}@{frame.seconds:.1f}s"
                points += tracker.add(
                    frame.pixels(), name=name, number=number, seconds=frame.seconds
                )
                progress.note(len(points))
        points += tracker.finish()
        self.folder.keep_results(job.id, [point.to_dict() for point in points])
        file.unlink(missing_ok=True)
        return {
            "num_frames": len(points),
            "num_located": sum(point.position.status == "located" for point in points),
        }

    def _tag(self, job: Job, progress: Progress) -> Mapping[str, Any]:
        root = self.root_of(job.options["folder"])
        files = files_inside(root)
        progress.note(0, len(files))
        database = self.databases.get(job.database).path if job.database else None
        options = MissingOptions(locate=options_of(job.options) or LocateOptions())
        with watching(_noted(progress, LOCATING)):
            report = place_missing(root, database=database, options=options)
        self.folder.keep_results(
            job.id, [proposal_record(proposal) for proposal in report.proposals]
        )
        progress.note(len(files))
        return {
            "num_photos": report.num_photos,
            "num_geotagged": report.num_geotagged,
            "num_missing": len(report.proposals),
        }

    # ---- what was reviewed -----------------------------------------------------------------------

    def write_accepted(
        self, job: Job, accepted: Sequence[tuple[str, GeoPoint | None]]
    ) -> Mapping[str, Any]:
        """Sidecars for photos of a job's proposals, written: name, and where a person moved it the
        place; `undo` takes them back.

        Raises `BadOption` for photos that were not proposed, or have no place.
        """
        root = self.root_of(job.options["folder"])
        proposed = {record["photo"]: record for record in self.folder.results(job.id)}
        proposals = []
        for name, moved in accepted:
            record = proposed.get(name)
            place = (
                None
                if record is None
                else record["position"]
                or (record["match"]["position"] if moved is not None else None)
            )
            if record is None or (place is None and moved is None):
                raise BadOption(
                    "only photos of the review that have a place, or were given one, can be written"
                )
            if not _is_inside(root / name, root):
                raise BadOption("a link leads out of the folder; it is not written beside")
            # A place that a person moved has neither the radius nor the heading that were found.
            answer = Position(name, "located", point=moved)
            if moved is None:
                assert place is not None
                point = GeoPoint(place["lat"], place["lon"])
                answer = Position(
                    name,
                    "located",
                    point=point,
                    radius_m=place["radius_m"],
                    heading_deg=place["heading_deg"],
                )
            proposals.append(Proposal(name, "match", answer.point, answer, None, None, ""))
        database = self.databases.get(job.database or None).localizer.photos
        plan = plan_tags(
            MissingReport(root, 0, 0, tuple(proposals), database, ()),
            kind="sidecars",
            include_unverified=True,
        )
        done = write_tags(plan, show_progress=False)
        undo = [] if done.undo_file is None else [done.undo_file.name]
        kept = [*job.summary.get("undo_files", []), *undo]
        self.folder.keep(
            replace(self.folder.get(job.id), summary={**job.summary, "undo_files": kept})
        )
        skipped = [
            {"photo": Path(entry.path).name, "reason": entry.reason}
            for entry in (*plan.skipped, *done.skipped)
        ]
        return {"num_written": len(done.files), "skipped": skipped, "can_undo": bool(kept)}

    def undo(self, job: Job) -> Mapping[str, Any]:
        """The files written last for a job's review, taken back. Raises `BadOption` where nothing
        was."""
        kept = list(job.summary.get("undo_files", []))
        if not kept:
            raise BadOption("nothing was written for this review, or it was taken back already")
        undone: Undone = undo_files(self.root_of(job.options["folder"]) / kept.pop())
        self.folder.keep(
            replace(self.folder.get(job.id), summary={**job.summary, "undo_files": kept})
        )
        kept_files = [
            {"photo": Path(entry.path).name, "reason": entry.reason} for entry in undone.refusals
        ]
        return {"num_removed": len(undone.removed), "kept": kept_files, "can_undo": bool(kept)}


def files_inside(root: Path) -> list[Path]:
    """The photos under a folder in their order. Raises `BadOption` where a link among them leads
    out of it."""
    for folder, folders, _ in os.walk(root):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)) and not _is_inside(
                Path(folder) / name, root
            ):
                raise BadOption(
                    "a link in this folder leads out of it; take it out, or name its folder at "
                    "the service's start"
                )
    files = [Path(file) for file in list_photos(root)]
    if not all(_is_inside(file, root) for file in files):
        raise BadOption(
            "a link in this folder leads out of it; take it out, or name its folder at the "
            "service's start"
        )
    return files


def _is_inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _asked(
    database: OpenDatabase, sources: Sequence[tuple[str, Path]], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return ask_batch(database, [(name, file) for name, file in sources], options)


def _noted(progress: Progress, label: str) -> Watcher:
    """Tells a job of the work of this label how far it is; during other work the job may be ended
    too."""

    def tell(now: str, num_done: int, num_total: int | None) -> None:
        if now == label:
            progress.note(num_done, num_total)
        else:
            progress.note(progress.job.num_done)

    return tell


def _patient(work: Callable[[], Any], progress: Progress) -> Any:
    """What the work gives; where another process writes to the database, tried again for a
    while."""
    for left in range(_LOCK_TRIES, 0, -1):
        try:
            return work()
        except StoreLocked:
            if left == 1:
                raise
            progress.note(progress.job.num_done)
            progress.wait()
