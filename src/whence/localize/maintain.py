"""Keeping a database: bring it up to date, fit it anew, take photos out, merge, and exchange with
other programs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.elsewhere import are_there, joined, path_of
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import BadOption, NoPhotos, UnreadableTable
from whence.index.exchange import export_npy, merge_stores
from whence.index.store import Store
from whence.localize.build import (
    STATE_BLOB,
    Build,
    BuildReport,
    aside_of,
    finish_refit,
    is_begun,
    is_same_state,
    open_or_create,
    tidy,
)
from whence.localize.engine import CELLS_BLOB, ENGINE_BLOB, check_engine, write_engine
from whence.localize.sources import (
    MissingFolder,
    is_there,
    is_under,
    missing_folders,
    source_files,
    source_names,
    stored_path,
)
from whence.models.descriptor import DescriptorModel, load_model
from whence.records import as_values
from whence.runtime import atomic_write
from whence.settings import BuildOptions
from whence.types import SkippedPhoto

HOW_TO_GO_ON = (
    "If they were moved, say where to: whence database move OLD NEW. If they are gone: whence "
    "database refresh --yes-remove."
)


class Moved(NamedTuple):
    """What `move_photos` did."""

    num_photos: int
    """Photos that lie elsewhere now."""
    num_there: int
    """Those of them that were found there."""


BEFORE_BLOB = "state-before-adapting"
"""The state that an adapted database was made with before."""
STATE_FILE = "descriptor-state.npz"
SETTINGS_FILE = "database.json"


def refresh_database(
    path: str | Path, *, removes_missing: bool = False, show_progress: bool | None = None
) -> BuildReport:
    """A report of a database brought up to date with the folders it was made from: new and changed
    photos are described, vanished ones go.

    A photo that is there but can no longer be read keeps its row and is reported. The photos of a
    folder that is not there, or holds none of them any more (a disk that is not mounted), are kept
    and the folder is reported, unless `removes_missing`. Raises `NoPhotos` where every folder is
    so.
    """
    started = time.perf_counter()
    folder = Path(path)
    with Store.open(folder, writable=True) as store:
        before = store.photos
        sources = source_files(store.options.get("sources", []), store.path)
        present = [source for source in sources if is_there(source)]
        options = BuildOptions(**store.options["build"])
        photos = scan_photos(
            *present,
            earlier_scan=before,
            show_progress=show_progress,
            allow_null_island=options.allow_null_island,
        )
        missing = [] if removes_missing else missing_folders(before, sources, new_scan=photos)
        files = [joined(store.path.absolute().parent, name) for name in before.paths]
        is_gone = ~np.array(are_there(files), bool)
        is_renamed = bool(set(before.content.tolist()).intersection(photos.content.tolist()))
        if not removes_missing and (
            not present or (len(before) and is_gone.all() and not is_renamed)
        ):
            raise NoPhotos(_nothing_left(folder, missing or sources))
        if removes_missing and len(present) < len(sources):
            store.set_options({**store.options, "sources": source_names(present, store.path)})
        model = load_model(options.model, options=options.model_options)
        is_kept = is_under(files, [path_of(one.folder) for one in missing])
        gone = [before.paths[row] for row in np.flatnonzero(is_gone & ~is_kept)]
        build = Build(store, model, options, show_progress=show_progress)
        return build.run(photos, started=started, removals=gone, missing=missing)


def _nothing_left(folder: Path, missing: Sequence[MissingFolder | str]) -> str:
    if not missing:
        return (
            f"{str(folder)!r} was made of a set or imported, and knows no folders: index the set, "
            "or the photos' folder, again"
        )
    what = "; ".join(map(str, missing))
    return (
        f"photos that {str(folder)!r} was made from are not there any more ({what}); everything is "
        f"kept. Is a disk not mounted? {HOW_TO_GO_ON}"
    )


def move_photos(path: str | Path, old: str | Path, new: str | Path) -> Moved:
    """Counts of the photos of a database whose folder `old`, or file, lies at `new` now. Nothing is
    described again.

    `old` is a path on this machine, or as the database names it. Raises `NoPhotos` where the
    database has no photos under `old`, or none of them is under `new`.
    """
    with Store.open(path, writable=True) as store:
        before, top = store.photos, store.path.absolute().parent
        old_file, new_file = (joined(top, str(old)), os.path.abspath(path_of(str(new))))
        if not _rows_under(before, old_file):
            old_file = os.path.abspath(path_of(str(old)))
        rows = _rows_under(before, old_file)
        if not rows:
            raise NoPhotos(
                f"{str(path)!r} has no photos under {str(old)!r}; its photos are like "
                f"{before.paths[0] if len(before) else ''!r}"
            )
        files = [
            new_file + os.path.normpath(before.file(row).absolute())[len(old_file) :]
            for row in rows
        ]
        num_there = sum(are_there(files))
        if not num_there:
            raise NoPhotos(
                f"none of the {len(rows)} photos of {old_file!r} is under {new_file!r}, for "
                f"example {files[0]!r}; nothing was changed"
            )
        names = [stored_path(file, store.path) for file in files]
        moved = before.select(np.array(rows))
        store.replace_photos(
            [before.paths[row] for row in rows], Photos(names, moved.columns, root=before.root)
        )
        sources = source_files(store.options.get("sources", []), store.path)
        kept = [
            new_file + source[len(old_file) :]
            if (source + os.sep).startswith(old_file + os.sep)
            else source
            for source in sources
        ]
        if not is_under(files, kept).all():
            kept.append(new_file)
        store.set_options(
            {**store.options, "sources": sorted(dict.fromkeys(source_names(kept, store.path)))}
        )
        tidy(store)
        return Moved(len(rows), num_there)


def _rows_under(photos: Photos, folder: str) -> list[int]:
    files = [os.path.normpath(photos.file(row).absolute()) for row in range(len(photos))]
    return [
        row
        for row, file in enumerate(files)
        if file == folder or file.startswith(folder.rstrip(os.sep) + os.sep)
    ]


def refit_database(
    path: str | Path,
    *,
    removes_missing: bool = False,
    model: DescriptorModel | None = None,
    blobs: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    show_progress: bool | None = None,
) -> BuildReport:
    """A report of a database whose descriptor was fitted again on all of its photos, which are
    described again; or with another fitted `model`.

    The new database is made beside the old one (resumable: run it again) and takes its place at the
    end; photos whose files are gone are left out and reported. `blobs` are kept in it; without
    another model those that say how it was adapted are. Raises `NoPhotos` where a whole folder is
    missing, unless `removes_missing`.
    """
    started = time.perf_counter()
    folder = Path(path)
    with Store.open(folder) as old:
        photos, settings, state = old.photos, old.options, old.read_blob(STATE_BLOB)
        kept_names = (CELLS_BLOB, BEFORE_BLOB) if model is None else (CELLS_BLOB,)
        kept_blobs = {name: old.read_blob(name) for name in kept_names} | dict(blobs or {})
        lost = (
            []
            if removes_missing
            else missing_folders(photos, source_files(settings.get("sources", []), old.path))
        )
    if lost:
        raise NoPhotos(_nothing_left(folder, lost))
    options = BuildOptions(**settings["build"])
    if model is None:
        model = load_model(options.model, options=options.model_options)
        model.descriptor.begin_from(state or {})
    options = replace(options, model_options=model.options)
    there = np.array(are_there(str(photos.file(i)) for i in range(len(photos))), bool)
    missing = tuple(
        SkippedPhoto(photos.paths[i], "the file is gone") for i in np.flatnonzero(~there)
    )
    if not there.any():
        raise NoPhotos(f"none of the photos of {str(folder)!r} is there any more")
    fresh = folder.with_name(folder.name + ".refit")
    _drop_other(fresh, model, options)
    with open_or_create(fresh, model, options) as store:
        store.set_options({**settings, "build": as_values(options)})
        for name, arrays in kept_blobs.items():
            if arrays is not None:
                store.write_blob(name, arrays)
        kept = photos.select(there)
        kept = Photos(kept.paths, kept.columns, root=photos.root, skipped=missing)
        report = Build(store, model, options, show_progress=show_progress).run(
            kept, started=started
        )
    os.rename(folder, aside_of(folder))
    finish_refit(folder)
    return replace(report, path=str(folder))


def _drop_other(fresh: Path, model: DescriptorModel, options: BuildOptions) -> None:
    """Drop what another, unfinished run left, where this one cannot go on with it."""
    if not is_begun(fresh):
        return
    with Store.open(fresh) as store:
        state = store.read_blob(STATE_BLOB)
        is_same = store.options["build"]["model_options"] == as_values(options)["model_options"]
    given = model.descriptor.state() if model.is_fitted else {}
    if not is_same or (state is not None and given and not is_same_state(state, given)):
        shutil.rmtree(fresh)


def undo_adapting(path: str | Path, *, show_progress: bool | None = None) -> BuildReport:
    """A report of an adapted database whose photos are described again as before it was. Raises
    `BadOption` for one that was not adapted."""
    with Store.open(path) as store:
        options, state = BuildOptions(**store.options["build"]), store.read_blob(BEFORE_BLOB)
    if state is None:
        raise BadOption(f"{str(path)!r} was not adapted: there is nothing to undo")
    model = load_model(
        options.model,
        options={name: value for name, value in options.model_options.items() if name != "adapted"},
    )
    model.descriptor.load_state(state)
    return refit_database(path, model=model, show_progress=show_progress)


def remove_photos(path: str | Path, photos: Iterable[str | Path]) -> int:
    """The number of photos taken out of a database, by their path on disk or as the database names
    them."""
    with Store.open(path, writable=True) as store:
        num_removed = store.remove(list(_stored_names(store, photos)))
        if num_removed:
            tidy(store)
        return num_removed


def unknown_photos(path: str | Path, photos: Iterable[str | Path]) -> tuple[str, ...]:
    """Those of the photos, named as for `remove_photos`, that the database does not have."""
    with Store.open(path) as store:
        known = set(store.photos.paths)
        return tuple(
            str(given) for name, given in _stored_names(store, photos).items() if name not in known
        )


def _stored_names(store: Store, photos: Iterable[str | Path]) -> dict[str, str | Path]:
    """What the database calls photos, and how each was named."""
    known = set(store.photos.paths)
    return {
        str(name)
        if str(name) in known
        else stored_path(os.path.abspath(path_of(str(name))), store.path): name
        for name in photos
    }


def merge_databases(path: str | Path, other: str | Path) -> int:
    """The number of new photos taken over from another database, made with the same model and
    vocabulary.

    Raises `CardMismatch` otherwise: index the other database's photos into this one instead.
    """
    with Store.open(path, writable=True) as store, Store.open(other) as source:
        num_new = merge_stores(store, source)
        theirs = [source.path.parent / name for name in source.options.get("sources", [])]
        names = {*store.options.get("sources", []), *source_names(theirs, store.path)}
        store.set_options({**store.options, "sources": sorted(names)})
        tidy(store)
        return num_new


def change_engine(path: str | Path, engine: str) -> int:
    """The number of rows that another engine searches from now on; an engine on a server is given
    what it lacks of them.

    The table that was used before stays as it is. Raises `UnknownName`, `BadOption`, `StoreError`
    and as `Store.open` does.
    """
    with Store.open(path, writable=True) as store:
        check_engine(engine, dim=store.dim)
        store.compact()
        before = store.options.get("build", {})
        # Killed between two of these steps, the database is searched exactly, by its own rows.
        store.delete_blob(ENGINE_BLOB)
        store.set_options({**store.options, "build": {**before, "engine": engine}})
        write_engine(store, engine=engine)
        return store.num_descriptors


def export_database(path: str | Path, folder: str | Path) -> int:
    """The number of rows written to a folder, as descriptors.npy (n, D), photos.csv, the fitted
    state and the settings.

    `import_database` reads them back; other programs need only the first two.
    """
    with Store.open(path) as store:
        exported = export_npy(store, folder)
        state = store.read_blob(STATE_BLOB)
        settings = {
            "card_id": store.card_id,
            "dim": store.dim,
            "dtype": store.dtype.name,
            "options": store.options,
        }
    if state is not None:
        with atomic_write(Path(folder) / STATE_FILE) as file:
            np.savez(file, **state)  # type: ignore[arg-type]
    with atomic_write(Path(folder) / SETTINGS_FILE, "w") as file:
        json.dump(settings, file, indent=1)
    return exported.num_rows


def import_database(folder: str | Path, *, path: str | Path) -> int:
    """The number of photos of an exported folder that became the database `path`. Raises
    `UnreadableTable` for a file that does not fit."""
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        card_id, dim, dtype, options = (
            settings[key] for key in ("card_id", "dim", "dtype", "options")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableTable(
            folder / SETTINGS_FILE, f"not the settings of an exported database ({error})"
        ) from None
    photos = Photos.from_csv(folder / "photos.csv")
    descriptors = _load_npy(folder / "descriptors.npy", shape=(len(photos), dim))
    state = _load_state(folder / STATE_FILE)
    with Store.create(path, card_id=card_id, dim=dim, dtype=dtype, options=options) as store:
        if state:
            store.write_blob(STATE_BLOB, state)
        for start in range(0, len(photos), 65_536):
            rows = np.arange(start, min(start + 65_536, len(photos)))
            store.add(
                photos.select(rows), contents=photos.content[rows], descriptors=descriptors[rows]
            )
        tidy(store)
        return store.num_photos


def _load_npy(path: Path, *, shape: tuple[int, int]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableTable(path, str(error)) from None
    if array.shape != shape:
        raise UnreadableTable(
            path, f"it has shape {array.shape}; photos.csv and the settings need {shape}"
        )
    return array


def _load_state(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UnreadableTable(path, str(error)) from None
