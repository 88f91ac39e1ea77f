"""Keeping a database: bring it up to date, fit it anew, take photos out, merge, and exchange with other programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import NoPhotos, UnreadableTable
from whence.index.store import Store
from whence.localize.build import (
    STATE_BLOB,
    Build,
    BuildReport,
    aside_of,
    finish_refit,
    open_or_create,
    source_names,
    stored_path,
    tidy,
)
from whence.models.descriptor import load_model
from whence.runtime import atomic_write
from whence.settings import BuildOptions
from whence.types import SkippedPhoto

STATE_FILE = "descriptor-state.npz"
SETTINGS_FILE = "database.json"


def refresh_database(path: str | Path, *, show_progress: bool | None = None) -> BuildReport:
    """Bring a database up to date with the folders it was made from: new and changed photos are described, vanished ones go.

    A photo that is there but can no longer be read keeps its row and is reported. Raises `NoPhotos` where no source is left.
    """
    started = time.perf_counter()
    folder = Path(path)
    with Store.open(folder, writable=True) as store:
        sources = [str(store.path.parent / name) for name in store.options.get("sources", [])]
        present = [source for source in sources if os.path.lexists(source)]
        if not present:
            raise NoPhotos(f"none of the folders {str(folder)!r} was made from is there any more: {', '.join(sources) or 'none'}")
        options = BuildOptions(**store.options["build"])
        photos = scan_photos(*present, known=store.photos, show_progress=show_progress, allow_null_island=options.allow_null_island)
        model = load_model(options.model, options=options.model_options)
        gone = [name for name in store.photos.paths if not os.path.lexists(store.path.parent / name)]
        return Build(store, model, options, show_progress=show_progress).run(photos, started=started, gone=gone)


def refit_database(path: str | Path, *, show_progress: bool | None = None) -> BuildReport:
    """Fit the descriptor again on all photos of the database and describe all of them again.

    The new database is made beside the old one (resumable: run it again) and takes its place at the end; photos whose files
    are gone are left out and reported.
    """
    started = time.perf_counter()
    folder = Path(path)
    with Store.open(folder) as old:
        photos, settings = old.photos, old.options
    options = BuildOptions(**settings["build"])
    model = load_model(options.model, options=options.model_options)
    there = np.array([os.path.lexists(photos.file(i)) for i in range(len(photos))], bool)
    missing = tuple(SkippedPhoto(photos.paths[i], "the file is gone") for i in np.flatnonzero(~there))
    if not there.any():
        raise NoPhotos(f"none of the photos of {str(folder)!r} is there any more")
    fresh = folder.with_name(folder.name + ".refit")
    with open_or_create(fresh, model, options) as store:
        store.set_options(settings)
        kept = photos.select(there)
        kept = Photos(kept.paths, kept.columns, root=photos.root, skipped=missing)
        report = Build(store, model, options, show_progress=show_progress).run(kept, started=started)
    os.rename(folder, aside_of(folder))
    finish_refit(folder)
    return replace(report, path=str(folder))


def remove_photos(path: str | Path, photos: Iterable[str | Path]) -> int:
    """Take photos out of a database, by their path on disk or as the database names them; how many were there."""
    with Store.open(path, writable=True) as store:
        named = set(store.photos.paths)
        wanted = [str(name) if str(name) in named else stored_path(os.path.abspath(name), store.path) for name in photos]
        num_removed = store.remove(wanted)
        if num_removed:
            tidy(store)
        return num_removed


def merge_databases(path: str | Path, other: str | Path) -> int:
    """Take over the photos of another database that was made with the same model and vocabulary; how many were new.

    Raises `CardMismatch` otherwise: index the other database's photos into this one instead.
    """
    with Store.open(path, writable=True) as store, Store.open(other) as source:
        num_new = store.merge(source)
        theirs = [source.path.parent / name for name in source.options.get("sources", [])]
        names = {*store.options.get("sources", []), *source_names(theirs, store.path)}
        store.set_options({**store.options, "sources": sorted(names)})
        tidy(store)
        return num_new


def export_database(path: str | Path, folder: str | Path) -> int:
    """Write descriptors.npy (n, D), photos.csv, the fitted state and the settings to a folder; how many rows.

    `import_database` reads them back; other programs need only the first two.
    """
    with Store.open(path) as store:
        exported = store.export_npy(folder)
        state = store.read_blob(STATE_BLOB)
        settings = {"card_id": store.card_id, "dim": store.dim, "dtype": store.dtype.name, "options": store.options}
    if state is not None:
        with atomic_write(Path(folder) / STATE_FILE) as file:
            np.savez(file, **state)  # type: ignore[arg-type]
    with atomic_write(Path(folder) / SETTINGS_FILE, "w") as file:
        json.dump(settings, file, indent=1)
    return exported.num_rows


def import_database(folder: str | Path, *, path: str | Path) -> int:
    """Make the database `path` of an exported folder; how many photos. Raises `UnreadableTable` for a file that does not fit."""
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        card_id, dim, dtype, options = (settings[key] for key in ("card_id", "dim", "dtype", "options"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableTable(folder / SETTINGS_FILE, f"not the settings of an exported database ({error})") from None
    photos = Photos.from_csv(folder / "photos.csv")
    descriptors = _load_npy(folder / "descriptors.npy", shape=(len(photos), dim))
    state = _load_state(folder / STATE_FILE)
    with Store.create(path, card_id=card_id, dim=dim, dtype=dtype, options=options) as store:
        if state:
            store.write_blob(STATE_BLOB, state)
        for start in range(0, len(photos), 65_536):
            rows = np.arange(start, min(start + 65_536, len(photos)))
            store.add(photos.select(rows), contents=photos.content[rows], descriptors=descriptors[rows])
        tidy(store)
        return store.num_photos


def _load_npy(path: Path, *, shape: tuple[int, int]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableTable(path, str(error)) from None
    if array.shape != shape:
        raise UnreadableTable(path, f"it has shape {array.shape}; photos.csv and the settings need {shape}")
    return array


def _load_state(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UnreadableTable(path, str(error)) from None
