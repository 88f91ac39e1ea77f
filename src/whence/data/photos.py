"""`Photos`: a collection of photos as columns. `whence.data.scan.scan_photos` makes one from
folders, lists and globs.

Columns rather than records: a million photos are a few arrays, and the file the store writes is
these arrays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from whence.data.elsewhere import is_address, path_of
from whence.data.numbers import finite_number
from whence.data.tables import read_rows, read_text
from whence.errors import UnreadableTable
from whence.types import GeoPoint, Photo, PlanePoint, SkippedPhoto

NO_TIME = np.iinfo(np.int64).min
NO_ZONE = np.iinfo(np.int16).min

COLUMNS: dict[str, type | str] = {
    "content": "S32",
    "lat": np.float64,
    "lon": np.float64,
    "altitude_m": np.float64,
    "east_m": np.float64,
    "north_m": np.float64,
    "zone": "S3",
    "point_source": "S8",
    "heading_deg": np.float32,
    "heading_is_magnetic": np.bool_,
    "error_m": np.float32,
    "time_us": np.int64,
    "time_zone_min": np.int16,
    "width": np.int32,
    "height": np.int32,
    "size_bytes": np.int64,
    "mtime_ns": np.int64,
    "ctime_ns": np.int64,
}
"""Name -> dtype of every column but the path. Missing numbers are NaN, missing text is empty,
missing times `NO_TIME`."""
LATER_COLUMNS: dict[str, int] = {"ctime_ns": 0}
"""Columns that older databases and tables lack, and what stands in for them."""


class Photos(Sequence[Photo]):
    """An immutable table of photos under a root folder. `photos[i]` is a `Photo`; `photos.lat` is a
    column (N,).

    `skipped` lists the files that were left out, with the reason, and `remarks` what a person
    should know of the scan as a whole; selections keep both.
    """

    def __init__(
        self,
        paths: Sequence[str],
        columns: Mapping[str, np.ndarray],
        *,
        root: str | Path = ".",
        skipped: Iterable[SkippedPhoto] = (),
        remarks: Iterable[str] = (),
    ) -> None:
        self.paths: tuple[str, ...] = tuple(paths)
        self.root = Path(root)
        self.skipped: tuple[SkippedPhoto, ...] = tuple(skipped)
        self.remarks: tuple[str, ...] = tuple(remarks)
        self.columns: dict[str, np.ndarray] = {}
        for name, dtype in COLUMNS.items():
            column = np.asarray(columns[name]).astype(dtype, copy=False)
            if column.shape != (len(self.paths),):
                raise ValueError(
                    f"column {name} has shape {column.shape} for {len(self.paths)} paths"
                )
            self.columns[name] = column

    @classmethod
    def of(
        cls,
        records: Iterable[Photo],
        *,
        root: str | Path = ".",
        skipped: Iterable[SkippedPhoto] = (),
        remarks: Iterable[str] = (),
    ) -> Photos:
        """The table of these records."""
        records = list(records)
        rows = [_as_row(photo) for photo in records]
        columns = {
            name: np.array([row[i] for row in rows], dtype=dtype)
            for i, (name, dtype) in enumerate(COLUMNS.items())
        }
        return cls(
            [photo.path for photo in records], columns, root=root, skipped=skipped, remarks=remarks
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Photos], *, root: str | Path | None = None) -> Photos:
        """One table of several, in order.

        Tables of different roots get the folder that holds them all, and paths below it; with a
        `root` paths are taken as they are.
        """
        if not parts:
            return cls.of([], root="." if root is None else root)
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in COLUMNS}
        if root is None and len({part.root for part in parts}) > 1:
            root = os.path.commonpath([part.root.absolute() for part in parts])
            before = [
                f"{part.root.absolute().relative_to(root).as_posix()}/".removeprefix("./")
                for part in parts
            ]
        else:
            root, before = parts[0].root if root is None else root, [""] * len(parts)
        paths = [
            folder + path for folder, part in zip(before, parts, strict=True) for path in part.paths
        ]
        skipped = [entry for part in parts for entry in part.skipped]
        remarks = dict.fromkeys(remark for part in parts for remark in part.remarks)
        return cls(paths, columns, root=root, skipped=skipped, remarks=remarks)

    @classmethod
    def from_csv(cls, path: str | Path, *, root: str | Path = ".") -> Photos:
        """The table of a CSV with the header `path` and the names of all columns, as databases
        export it.

        Raises `UnreadableTable` with the line.
        """
        rows = read_rows(read_text(path), path=path, delimiter=",")
        header = next(rows, None)
        titles = [] if header is None else header.fields
        if [*titles, *(name for name in LATER_COLUMNS if name not in titles)] != ["path", *COLUMNS]:
            raise UnreadableTable(path, f"the first line must be path,{','.join(COLUMNS)}", line=1)
        lines = []
        for row in rows:
            if len(row.fields) != len(titles):
                raise UnreadableTable(
                    path, f"{len(row.fields)} fields instead of {len(titles)}", line=row.line
                )
            lines.append(row.fields)
        columns = {}
        for i, (name, dtype) in enumerate(COLUMNS.items(), start=1):
            texts = [line[i] if i < len(titles) else str(LATER_COLUMNS[name]) for line in lines]
            try:
                columns[name] = _as_column(texts, np.dtype(dtype))
            except ValueError as error:
                raise UnreadableTable(path, f"column {name}: {error}") from None
        return cls([line[0] for line in lines], columns, root=root)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return (
            f"<Photos: {len(self)} under {str(self.root)!r}, {int(self.has_point.sum())} with a "
            f"place{skipped}>"
        )

    def __iter__(self) -> Iterator[Photo]:
        return (self.record(i) for i in range(len(self)))

    def __getitem__(self, key: int) -> Photo:  # type: ignore[override]
        return self.record(range(len(self))[key])

    def __getattr__(self, name: str) -> np.ndarray:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"Photos has no attribute {name!r}; columns: {', '.join(COLUMNS)}")

    def select(self, rows: np.ndarray) -> Photos:
        """The table of some rows, by index (M,) or mask (N,) bool."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = {name: column[rows] for name, column in self.columns.items()}
        paths = [self.paths[i] for i in rows]
        return Photos(paths, columns, root=self.root, skipped=self.skipped, remarks=self.remarks)

    def with_columns(self, **columns: np.ndarray) -> Photos:
        """The same photos with some columns replaced."""
        held = {**self.columns, **columns}
        return Photos(self.paths, held, root=self.root, skipped=self.skipped, remarks=self.remarks)

    def with_remarks(self, remarks: Iterable[str]) -> Photos:
        """The same photos with more to say of them."""
        return Photos(
            self.paths,
            self.columns,
            root=self.root,
            skipped=self.skipped,
            remarks=(*self.remarks, *remarks),
        )

    def file(self, row: int) -> Path:
        """Where the photo of a row lies, on this machine or elsewhere."""
        name = self.paths[row]
        return Path(path_of(name)) if is_address(name) else self.root / name

    @property
    def has_point(self) -> np.ndarray:
        """(N,) bool: which photos have a latitude and longitude."""
        return np.isfinite(self.columns["lat"])

    @property
    def has_plane(self) -> np.ndarray:
        """(N,) bool: which photos have coordinates on a plane (from "@" file names)."""
        return np.isfinite(self.columns["east_m"])

    def record(self, row: int) -> Photo:
        """One row as a record."""
        get = {name: column[row] for name, column in self.columns.items()}
        point = (
            GeoPoint(float(get["lat"]), float(get["lon"]), finite_number(get["altitude_m"]))
            if np.isfinite(get["lat"])
            else None
        )
        plane = None
        if np.isfinite(get["east_m"]):
            plane = PlanePoint(float(get["east_m"]), float(get["north_m"]), get["zone"].decode())
        return Photo(
            path=self.paths[row],
            content=get["content"].decode(),
            point=point,
            plane=plane,
            point_source=get["point_source"].decode(),
            heading_deg=finite_number(get["heading_deg"]),
            heading_is_magnetic=bool(get["heading_is_magnetic"]),
            error_m=finite_number(get["error_m"]),
            time=_time(int(get["time_us"]), int(get["time_zone_min"])),
            width=int(get["width"]),
            height=int(get["height"]),
            size_bytes=int(get["size_bytes"]),
            mtime_ns=int(get["mtime_ns"]),
            ctime_ns=int(get["ctime_ns"]),
        )


def changed_rows(
    photos: Photos, before: Photos, *, columns: Iterable[str], is_new: bool = True
) -> np.ndarray:
    """Rows (M,) of `photos` whose `columns` differ from before, and with `is_new` those whose path
    was not there before."""
    row_before = {path: row for row, path in enumerate(before.paths)}
    rows = np.array([row_before.get(path, -1) for path in photos.paths], np.int64)
    same = (rows >= 0) | (not is_new)
    for name in columns:
        if len(before):
            now, then = photos.columns[name], before.columns[name][rows]
            differs = (now != then) & ~((now != now) & (then != then))
            same &= ~(differs & (rows >= 0))
    return np.flatnonzero(~same)


def _as_column(texts: Sequence[str], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "S":
        return np.array([text.encode() for text in texts], dtype)
    if dtype.kind == "f":
        return np.array([float(text) if text else np.nan for text in texts], dtype)
    return np.array([int(text) for text in texts], np.int64).astype(dtype)


def _time(microseconds: int, zone_minutes: int) -> datetime | None:
    if microseconds == NO_TIME:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    if zone_minutes == NO_ZONE:
        return moment.replace(tzinfo=None)
    return moment.astimezone(timezone(timedelta(minutes=zone_minutes)))


def _as_row(photo: Photo) -> tuple[object, ...]:
    nan = float("nan")
    moment, zone_minutes = NO_TIME, NO_ZONE
    if photo.time is not None:
        offset = photo.time.utcoffset()
        zone_minutes = NO_ZONE if offset is None else int(offset.total_seconds() // 60)
        aware = photo.time.replace(tzinfo=UTC) if offset is None else photo.time
        moment = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    point, plane = photo.point, photo.plane
    return (
        photo.content.encode(),
        nan if point is None else point.lat,
        nan if point is None else point.lon,
        nan if point is None or point.altitude_m is None else point.altitude_m,
        nan if plane is None else plane.east_m,
        nan if plane is None else plane.north_m,
        b"" if plane is None else plane.zone.encode(),
        photo.point_source.encode(),
        nan if photo.heading_deg is None else photo.heading_deg,
        photo.heading_is_magnetic,
        nan if photo.error_m is None else photo.error_m,
        moment,
        zone_minutes,
        photo.width,
        photo.height,
        photo.size_bytes,
        photo.mtime_ns,
        photo.ctime_ns,
    )
