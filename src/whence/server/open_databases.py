"""The databases of a service, open in one worker: memory-mapped, shared by all workers, looked at
anew where they grew."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from whence.data.photos import Photos
from whence.errors import NoPhotos, StoreError, UnknownName
from whence.index.manifest import MANIFEST_NAME
from whence.index.store import Store
from whence.localize.judge import Judge
from whence.localize.localizer import Localizer, LocateOptions

_MOST_JUDGES = 16
_Sign = tuple[int, int, int]


class OpenDatabase:
    """One database. Threads may use it at once; `localizer` is the present one, and who holds an
    older one may finish with it."""

    def __init__(self, name: str, path: str | Path) -> None:
        self.name, self.path = name, Path(path)
        self._lock = RLock()
        self._localizer: Localizer | None = None
        self._sign: _Sign | None = None
        self._judges: OrderedDict[object, Judge] = OrderedDict()

    @property
    def localizer(self) -> Localizer:
        """The database as it is now: opened when first asked for, and again where its manifest is
        another. Raises `StoreError`."""
        with self._lock:
            sign = self._read_sign()
            if self._localizer is None or sign != self._sign:
                try:
                    self._localizer = self._opened()
                    self._sign = sign
                    self._judges.clear()
                except StoreError:
                    # Caught between two states of a commit: what is open still holds.
                    if self._localizer is None:
                        raise
            return self._localizer

    def judge(self, key: object, make: Callable[[], LocateOptions]) -> Judge:
        """The stages after description for options; the last few are kept, since finding a
        calibration reads files."""
        with self._lock:
            localizer = self.localizer
            if key not in self._judges:
                self._judges[key] = localizer.judge(make())
                while len(self._judges) > _MOST_JUDGES:
                    self._judges.popitem(last=False)
            self._judges.move_to_end(key)
            return self._judges[key]

    def row_of(self, photo: str) -> int:
        """The row of a photo by its id, the hash of its bytes. Raises `NoPhotos`."""
        photos = self.localizer.photos
        key = photo.encode("ascii", "replace")
        rows = (
            np.flatnonzero(photos.columns["content"] == key) if len(key) == 32 else np.zeros(0, int)
        )
        if not len(rows):
            raise NoPhotos(f"the database {self.name!r} has no photo of this id")
        return int(rows[0])

    def _read_sign(self) -> _Sign:
        try:
            found = os.stat(self.path / MANIFEST_NAME)
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def _opened(self) -> Localizer:
        before = self._localizer
        if before is not None:
            store = Store.open(self.path)
            is_same = store.state_id == before.store.state_id and store.options.get(
                "build"
            ) == before.store.options.get("build")
            if is_same and store.card_id == before.store.card_id:
                # Only photos came or went: the model, with what it learned of them, stays.
                return Localizer(store, before.model)
        return Localizer.open(self.path)


class OpenDatabases:
    """All databases by name; the first is the one that is meant where none is named."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.by_name = {name: OpenDatabase(name, path) for name, path in paths.items()}

    def get(self, name: str | None) -> OpenDatabase:
        """The database of a name. Raises `UnknownName`."""
        if name is None:
            return next(iter(self.by_name.values()))
        if name not in self.by_name:
            raise UnknownName("database", name[:64], self.by_name)
        return self.by_name[name]

    def open_all(self) -> dict[str, str]:
        """Reasons, by name, why databases cannot be opened; empty where all can."""
        wrong = {}
        for name, one in self.by_name.items():
            with contextlib.ExitStack():
                try:
                    _ = one.localizer
                except Exception as error:
                    wrong[name] = type(error).__name__
        return wrong


def about(database: OpenDatabase) -> dict[str, Any]:
    """Plain values of a database: how many photos, by which model, and the box that holds them."""
    localizer = database.localizer
    photos: Photos = localizer.photos
    has_point = photos.has_point
    box = None
    if has_point.any():
        lat, lon = photos.lat[has_point], photos.lon[has_point]
        box = {
            "south": float(lat.min()),
            "west": float(lon.min()),
            "north": float(lat.max()),
            "east": float(lon.max()),
        }
    return {
        "name": database.name,
        "num_photos": len(photos),
        "num_with_point": int(has_point.sum()),
        "model": localizer.model.name,
        "box": box,
    }


def row_record(photos: Photos, row: int) -> dict[str, Any]:
    """Plain values of a database photo: id, name, place, heading and time."""
    photo = photos.record(row)
    return {
        "id": photo.content,
        "photo": photo.path,
        "lat": None if photo.point is None else photo.point.lat,
        "lon": None if photo.point is None else photo.point.lon,
        "heading_deg": photo.heading_deg,
        "time": None if photo.time is None else photo.time.isoformat(),
        "width": photo.width,
        "height": photo.height,
    }
