"""Building and keeping a database: scan, fit, describe what is new, commit as it goes, tidy up.

The store knows no models and the models know no store; this is where they meet. A run that is
killed leaves a database that opens; running it again goes on where it stopped, with the vocabulary
it had begun with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whence.data.photos import COLUMNS, Photos, changed_rows
from whence.data.scan import scan_photos
from whence.errors import CardMismatch, NoPhotos, Stopped, StoreError
from whence.index.manifest import MANIFEST_NAME
from whence.index.store import Store, estimate_bytes
from whence.localize.commits import PhotoBatch
from whence.localize.engine import check_engine, code_bytes, write_engine
from whence.localize.keeping import bytes_per_photo, keeps_local
from whence.localize.sources import MissingFolder, nothing_found, source_names, stored_paths
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.records import as_values
from whence.runtime import progress, told_when_stopped
from whence.settings import BuildOptions
from whence.types import SkippedPhoto

if TYPE_CHECKING:
    from whence.localize.machines import Machines

STATE_BLOB = "descriptor-state"
DESCRIBING = "describing photos"
"""The name of this work on progress bars."""
GO_ON = "run the same command again to go on"
_VOLATILE_COLUMNS = {"mtime_ns", "ctime_ns"}
"""Columns that tell whether a file has to be read again: where they alone change, it is the same
photo, and no news."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did."""

    path: str
    model: str
    num_photos: int
    num_with_point: int
    num_descriptors: int
    num_described: int
    num_added: int
    num_updated: int
    num_removed: int
    vocabulary: str
    """"fitted" on the database's own photos, "packaged", "kept" from before, "given" fitted, "none"
    where there is none."""
    skipped: tuple[SkippedPhoto, ...]
    size_bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()
    """What a person should know of the photos as a whole: positions not taken, files left out."""
    missing: tuple[MissingFolder, ...] = ()
    """Folders that are not there or hold none of their photos any more; these were kept."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do, before it starts."""

    num_photos: int
    num_to_describe: int
    size_bytes: int
    """Estimated size of the database folder afterwards."""
    skipped: tuple[SkippedPhoto, ...]


def is_begun(folder: Path) -> bool:
    """Whether there is a database: a run killed before its first commit leaves a folder without a
    manifest, as good as none."""
    return (folder / MANIFEST_NAME).exists()


def stored_options(path: str | Path) -> BuildOptions | None:
    """The options a database was made with; None where there is no folder yet."""
    if not is_begun(Path(path)):
        return None
    with Store.open(path) as store:
        return BuildOptions(**store.options["build"]) if "build" in store.options else None


def plan_build(
    sources: Sequence[str | Path],
    *,
    path: str | Path,
    options: BuildOptions | None = None,
    positions: str | Path | None = None,
) -> BuildPlan:
    """How much work and disk a build would take. Reads the photos' headers and hashes, describes
    nothing, writes nothing."""
    folder = Path(path)
    options = options or stored_options(folder) or BuildOptions()
    model = load_model(options.model, options=options.model_options)
    photos = scan_photos(*sources, positions=positions, allow_null_island=options.allow_null_island)
    return _plan(photos, folder, options, model)


def _plan(photos: Photos, folder: Path, options: BuildOptions, model: DescriptorModel) -> BuildPlan:
    contents = np.unique(photos.content)
    num_known, num_new, num_rows = 0, len(contents), len(photos)
    if is_begun(folder):
        with Store.open(folder) as store:
            num_known = store.num_descriptors
            num_new = int((~store.has_descriptors(contents)).sum())
            num_rows = len({*store.photos.paths, *stored_paths(photos, folder)})
    num_descriptors = num_known + num_new
    bytes_of = {"index_bytes": code_bytes(num_descriptors, model.dim, engine=options.engine)}
    bytes_of["cache_bytes"] = bytes_per_photo(options, model, num_descriptors)
    size = estimate_bytes(max(num_descriptors, num_rows), model.dim, options.dtype, **bytes_of)
    return BuildPlan(num_rows, num_new, size + model.descriptor.state_bytes, photos.skipped)


def build_database(
    sources: Sequence[str | Path],
    *,
    path: str | Path,
    options: BuildOptions | None = None,
    positions: str | Path | None = None,
    show_progress: bool | None = None,
    on_plan: Callable[[BuildPlan], None] | None = None,
    machines: Machines | None = None,
) -> BuildReport:
    """A report of the database at `path`, made or extended with the photos under `sources`; only
    what is new or changed is described.

    `on_plan` is told what will be done once the photos are scanned; it may stop the build by
    raising. Without `options` those the database was made with are kept. `machines` describe in the
    place of this process. Unreadable photos are skipped and reported. Raises `NoPhotos` where
    nothing readable was found, `CardMismatch` where the database was made with another model.
    """
    started = time.perf_counter()
    folder = Path(path)
    finish_refit(folder)
    options = options or stored_options(folder) or BuildOptions()
    model = load_model(options.model, options=options.model_options)
    # What a network chose by itself is remembered too: the same numbers must come next time.
    options = replace(options, model_options=model.options)
    check_engine(options.engine, dim=model.dim)
    known = None
    if is_begun(folder):
        with Store.open(folder) as before:
            known = before.photos
    with told_when_stopped(
        f"while photos were being read; {str(folder)!r} is as it was, run the same command again"
    ):
        photos = scan_photos(
            *sources,
            positions=positions,
            earlier_scan=known,
            show_progress=show_progress,
            allow_null_island=options.allow_null_island,
        )
    if not len(photos):
        raise NoPhotos(nothing_found(sources, photos))
    if on_plan is not None:
        on_plan(_plan(photos, folder, options, model))
    with open_or_create(folder, model, options) as store:
        places = sorted({*store.options.get("sources", []), *source_names(sources, folder)})
        settings = {**store.options, "sources": places, "build": as_values(options)}
        if settings != store.options:
            store.set_options(settings)
        return Build(store, model, options, show_progress=show_progress, machines=machines).run(
            photos, started=started
        )


def build_from_photos(
    photos: Photos,
    *,
    path: str | Path,
    model: DescriptorModel,
    options: BuildOptions | None = None,
    show_progress: bool | None = None,
) -> BuildReport:
    """Like `build_database`, for photos that were scanned already and a model that may be fitted
    already.

    A database begun with another fitted state is refused with `CardMismatch`.
    """
    started = time.perf_counter()
    options = replace(options or BuildOptions(), model=model.name, model_options=model.options)
    with open_or_create(Path(path), model, options) as store:
        return Build(store, model, options, show_progress=show_progress).run(
            photos, started=started
        )


def finish_refit(folder: Path) -> None:
    """Put a finished refit in its place. Called on every opening: a run killed between the two
    renames is completed here."""
    aside, fresh = aside_of(folder), folder.with_name(folder.name + ".refit")
    if aside.is_dir() and fresh.is_dir() and not folder.exists():
        os.rename(fresh, folder)
    if aside.is_dir() and folder.is_dir():
        shutil.rmtree(aside, ignore_errors=True)


def aside_of(folder: Path) -> Path:
    """Where the old database waits while a refitted one takes its place."""
    return folder.with_name(folder.name + ".before-refit")


class Build:
    """One run over one open store."""

    def __init__(
        self,
        store: Store,
        model: DescriptorModel,
        options: BuildOptions,
        *,
        show_progress: bool | None,
        machines: Machines | None = None,
    ) -> None:
        self.machines = machines
        self.store = store
        self.model = model
        self.options = options
        self.show_progress = show_progress
        self.skipped: list[SkippedPhoto] = []

    def run(
        self,
        photos: Photos,
        *,
        started: float,
        removals: Sequence[str] = (),
        missing: Sequence[MissingFolder] = (),
    ) -> BuildReport:
        self.skipped = list(photos.skipped)
        remarks = photos.remarks
        photos = Photos(
            stored_paths(photos, self.store.path), photos.columns, root=self.store.path.parent
        )
        num_removed = self.store.remove(removals) if removals else 0
        before = self.store.photos
        changed = changed_rows(photos, before, columns=COLUMNS.keys() - _VOLATILE_COLUMNS)
        files = photos.select(changed)
        renewed = photos.select(
            changed_rows(photos, before, columns=_VOLATILE_COLUMNS, is_new=False)
        )
        vocabulary = self._make_ready(photos)
        num_described = self._describe(files)
        with told_when_stopped(
            f"all photos are described and kept in {str(self.store.path)!r}; {GO_ON}"
        ):
            self._note_times(renewed)
            tidy(self.store)
        return BuildReport(
            path=str(self.store.path),
            model=self.model.name,
            num_photos=self.store.num_photos,
            num_with_point=int(self.store.photos.has_point.sum()),
            num_descriptors=self.store.num_descriptors,
            num_described=num_described,
            num_added=len(set(self.store.photos.paths) - set(before.paths)),
            num_updated=len(
                set(files.paths) & set(before.paths) - {entry.path for entry in self.skipped}
            ),
            num_removed=num_removed,
            vocabulary=vocabulary,
            skipped=tuple(self.skipped),
            size_bytes=self.store.size_bytes,
            seconds=time.perf_counter() - started,
            remarks=remarks,
            missing=tuple(missing),
        )

    def _make_ready(self, photos: Photos) -> str:
        """Give the model its fitted state: the database's own where it has one, else fitted on a
        sample and stored first."""
        state = self.store.read_blob(STATE_BLOB)
        if self.model.is_fitted:
            given = self.model.descriptor.state()
            if state is not None and not is_same_state(state, given):
                raise CardMismatch(
                    self.store.path,
                    "begun with a descriptor fitted on other photos; use another folder",
                )
            if state is None and given:
                self.store.write_blob(STATE_BLOB, given)
            return "given" if given else "none"
        if state is not None:
            self.model.descriptor.load_state(state)
            return "kept"
        # Ordered by content, the sample depends on the set of photos only, not on names or on what
        # was described before.
        _, rows = np.unique(photos.content, return_index=True)
        how = self.model.prepare([photos.file(int(row)) for row in rows], seed=self.options.seed)
        self.store.write_blob(STATE_BLOB, self.model.descriptor.state())
        return how

    def _note_times(self, photos: Photos) -> None:
        """Remember the files' new times, so that the next run need not read them; not those of
        photos that were skipped."""
        known = self.store.photos
        row_of = {path: row for row, path in enumerate(known.paths)}
        rows = np.array([row_of[path] for path in photos.paths], np.int64)
        if len(rows):
            is_same = known.content[rows] == photos.content
            times = {name: photos.columns[name][is_same] for name in _VOLATILE_COLUMNS}
            self.store.update_photos(known.select(rows[is_same]).with_columns(**times))

    def _describe(self, photos: Photos) -> int:
        """Describe every content that has no descriptor yet, committing its photos with it; how
        many were described."""
        contents, first_rows, group = np.unique(
            photos.content, return_index=True, return_inverse=True
        )
        has = self.store.has_descriptors(contents) if len(contents) else np.zeros(0, bool)
        if has[group].any():
            nothing = np.zeros((0, self.model.dim), np.float32)
            self.store.add(
                photos.select(has[group]), contents=np.zeros(0, "S32"), descriptors=nothing
            )
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(contents) + 1))
        pending = np.flatnonzero(~has)[np.argsort(first_rows[~has], kind="stable")]
        is_kept = keeps_local(self.options, self.model, len(contents))
        batch = PhotoBatch(self.store, photos, options=self.options, keeps_local=is_kept)
        try:
            with progress(DESCRIBING, total=len(pending), show=self.show_progress) as advance:
                files = (photos.file(int(first_rows[i])) for i in pending)
                if self.machines is None:
                    results = self.model.describe_each(files, keep_local=is_kept)
                else:
                    results = self.machines.describe_each(self.model, files, keep_local=is_kept)
                for i, result in zip(pending, results, strict=True):
                    rows = order[starts[i] : starts[i + 1]]
                    if isinstance(result, Described):
                        batch.put(contents[i], result, rows)
                    else:
                        self.skipped += [
                            SkippedPhoto(photos.paths[row], result.reason) for row in rows
                        ]
                    advance(1)
            batch.commit()
        except KeyboardInterrupt as stop:
            with contextlib.suppress(
                StoreError
            ):  # The commit itself was interrupted: the state before or after it stands.
                batch.commit()
            num = int(self.store.has_descriptors(contents[pending]).sum())
            kept = (
                f"{num} of {len(pending)} photos were described and are kept in "
                f"{str(self.store.path)!r}"
            )
            raise Stopped(f"{kept}; {GO_ON}") from stop
        return batch.num_committed


def tidy(store: Store) -> None:
    """One segment, and an engine that knows its rows."""
    store.compact()
    write_engine(store, engine=BuildOptions(**store.options["build"]).engine)


def open_or_create(folder: Path, model: DescriptorModel, options: BuildOptions) -> Store:
    """The database at `folder`, open for writing, new where there is none. Raises `CardMismatch`
    for one of another model."""
    finish_refit(folder)
    settings = as_values(options)
    if not is_begun(folder):
        made = {"build": settings, "sources": []}
        return Store.create(
            folder, card_id=model.card.card_id, dim=model.dim, dtype=options.dtype, options=made
        )
    store = Store.open(folder, writable=True)
    if (
        store.card_id != model.card.card_id
        or store.options["build"]["model_options"] != settings["model_options"]
    ):
        made_with = f"{store.card_id} {store.options['build']['model_options'] or ''}".strip()
        store.close()
        raise CardMismatch(
            folder,
            (
                f"made with {made_with}, not {model.card.card_id}; use that model, or another "
                "database folder"
            ),
        )
    return store


def is_same_state(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Whether two fitted states are the same."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
