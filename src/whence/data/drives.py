"""Photos in sequences: Mapillary Street-Level Sequences as published, and as SeqVLAD reformats
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.layouts import (
    DEFAULT_OPTIONS,
    existing_photos,
    read_rows,
    require_photos,
    table_rows,
    with_placement,
)
from whence.data.photos import Photos
from whence.data.scan import ReadOptions, list_photos, read_files
from whence.errors import NoPhotos, UnreadableTable
from whence.geo import utm_zone
from whence.types import GeoPoint, Photo, PlanePoint


@dataclass(frozen=True)
class Frames:
    """Photos of drives, with the sequence each belongs to and its number in it. Sequences are runs
    of equal `sequence`."""

    photos: Photos
    sequence: np.ndarray
    """(N,) text keys."""
    frame: np.ndarray
    """(N,) int64."""
    is_night: np.ndarray
    """(N,) bool; False where the set does not say."""
    view_direction: np.ndarray
    """(N,) text: Forward, Backward, Sideways, or empty."""
    cell: np.ndarray
    """(N,) text: key of the set's own group of photos near one another, with the city's name; empty
    where it has none."""

    def select(self, rows: np.ndarray) -> Frames:
        """Some rows, in the given order."""
        return Frames(
            self.photos.select(rows),
            *(
                column[rows]
                for column in (
                    self.sequence,
                    self.frame,
                    self.is_night,
                    self.view_direction,
                    self.cell,
                )
            ),
        )


@dataclass(frozen=True)
class SequenceSet:
    """Database and queries as frames of drives."""

    name: str
    database: Frames
    queries: Frames


def read_msls(
    root: str | Path,
    *,
    cities: Sequence[str] | None = None,
    split: str = "train_val",
    options: ReadOptions = DEFAULT_OPTIONS,
) -> SequenceSet:
    """Mapillary Street-Level Sequences: the frames of some cities, panoramas left out, in the order
    of their sequences.

    Columns are found by name. Cities without raw.csv (the hidden test set) have frames without
    positions. Raises `UnreadableTable`.
    """
    folder = Path(root) / split
    names = (
        sorted(path.name for path in folder.glob("*") if path.is_dir())
        if cities is None
        else list(cities)
    )
    sides = [
        _join([_msls_side(folder / city / side, options) for city in names], folder)
        for side in ("database", "query")
    ]
    return SequenceSet("+".join(names), *sides)


def list_cities(root: str | Path) -> tuple[str, ...]:
    """The cities of a folder laid out as MSLS publishes them, sorted; none where it is not."""
    folder = Path(root) / "train_val"
    return (
        tuple(sorted(file.parent.parent.name for file in folder.glob("*/query/raw.csv")))
        if folder.is_dir()
        else ()
    )


def read_msls_set(
    root: str | Path, *, cities: Sequence[str], options: ReadOptions = DEFAULT_OPTIONS
) -> EvaluationSet:
    """Some cities of MSLS as an evaluation set, panoramas left out; its notes say which queries are
    by night or to the side."""
    found = read_msls(root, cities=cities, options=options)
    frames = found.queries
    words = zip(frames.is_night.tolist(), frames.view_direction.tolist(), strict=True)
    notes = tuple(
        f"{'night' if is_night else 'day'}_{direction.lower()}" for is_night, direction in words
    )
    return EvaluationSet(found.name, found.database.photos, frames.photos, notes=notes)


def read_sequences(
    root: str | Path, *, split: str = "", options: ReadOptions = DEFAULT_OPTIONS
) -> SequenceSet:
    """Sequences as SeqVLAD reformats MSLS:
    split/{database,queries}/sequence/@east@north@sequence@frame@key@city@date@.jpg.

    Frames are in numerical order. Raises `UnreadableTable` for a name without a frame number, and
    `NoPhotos`.
    """
    base = Path(root) / split
    sides = []
    for side in ("database", "queries"):
        found = []
        for file in list_photos(base / side) if (base / side).is_dir() else []:
            fields = Path(file).name.split("@")
            try:
                found.append((fields[3], int(fields[4]), file))
            except (IndexError, ValueError):
                raise UnreadableTable(file, "the name has no sequence and frame number") from None
        found.sort()
        photos = read_files([file for _, _, file in found], root=base / side, options=options)
        keep = read_rows(photos, [file for _, _, file in found])
        rows = [found[k] for k in keep]
        sides.append(
            _frames(
                require_photos(photos, base / side),
                [row[0] for row in rows],
                [row[1] for row in rows],
            )
        )
    return SequenceSet(base.resolve().name, sides[0], sides[1])


def _frames(photos: Photos, sequence: Sequence[str], frame: Sequence[int]) -> Frames:
    count = len(photos)
    return Frames(
        photos,
        np.array(sequence),
        np.array(frame, np.int64),
        np.zeros(count, bool),
        np.full(count, ""),
        np.full(count, ""),
    )


def _msls_side(folder: Path, options: ReadOptions) -> Frames | None:
    """One city's database or queries, in the order of sequences and frames; None where there are no
    photos."""
    info = {
        row["key"]: row
        for _, row in table_rows(folder / "seq_info.csv", ("key", "sequence_key", "frame_number"))
    }
    raw = (
        {
            row["key"]: row
            for _, row in table_rows(folder / "raw.csv", ("key", "lon", "lat", "pano"))
        }
        if (folder / "raw.csv").is_file()
        else {}
    )
    post_path = folder / "postprocessed.csv"
    post = (
        {row["key"]: row for _, row in table_rows(post_path, ("key", "easting", "northing"))}
        if post_path.is_file()
        else {}
    )
    keys = [key for key in info if raw.get(key, {}).get("pano", "False") != "True"]
    keys.sort(key=lambda key: (info[key]["sequence_key"], int(info[key]["frame_number"])))
    photos, kept = existing_photos(
        [folder / "images" / f"{key}.jpg" for key in keys], folder, options
    )
    if not len(photos):
        return None
    keys = [keys[k] for k in kept]
    records = [
        _msls_record(photo, raw.get(key), post.get(key))
        for photo, key in zip(photos, keys, strict=True)
    ]
    return Frames(
        Photos.of(records, root=photos.root, skipped=photos.skipped),
        np.array([info[key]["sequence_key"] for key in keys]),
        np.array([int(info[key]["frame_number"]) for key in keys], np.int64),
        np.array([post.get(key, {}).get("night", "False") == "True" for key in keys], bool),
        np.array([post.get(key, {}).get("view_direction", "") for key in keys]),
        np.array(
            [
                f"{folder.parent.name}/{cell}"
                if (cell := post.get(key, {}).get("unique_cluster", ""))
                else ""
                for key in keys
            ]
        ),
    )


def _msls_record(photo: Photo, raw: dict[str, str] | None, post: dict[str, str] | None) -> Photo:
    point = GeoPoint(float(raw["lat"]), float(raw["lon"])) if raw else None
    plane = None
    if post:
        plane = PlanePoint(
            float(post["easting"]),
            float(post["northing"]),
            utm_zone(point.lat, point.lon) if point else "",
        )
    heading = float(raw["ca"]) % 360 if raw and raw.get("ca") else None
    return with_placement(
        photo, point, plane, heading, _captured(raw.get("captured_at", "")) if raw else None
    )


def _captured(text: str) -> datetime | None:
    """A date, or milliseconds since 1970."""
    try:
        return (
            datetime.fromtimestamp(int(text) / 1000, UTC)
            if text.isdigit()
            else datetime.fromisoformat(text)
        )
    except ValueError:
        return None


def _join(parts: Sequence[Frames | None], folder: Path) -> Frames:
    """The frames of several cities as one table under a common root."""
    held = [part for part in parts if part is not None]
    if not held:
        raise NoPhotos(f"no photos in {str(folder)!r}")
    records = []
    for part in held:
        prefix = part.photos.root.resolve().relative_to(folder.resolve())

        records += [replace(photo, path=(prefix / photo.path).as_posix()) for photo in part.photos]
    skipped = [entry for part in held for entry in part.photos.skipped]
    names = ("sequence", "frame", "is_night", "view_direction", "cell")
    columns = [np.concatenate([getattr(part, name) for part in held]) for name in names]
    return Frames(Photos.of(records, root=folder, skipped=skipped), *columns)
