"""Folders in kapture's format 1.1: tables of text, and one file of plain numbers for each photo.

    sensors/sensors.txt               a camera for each size of photos, and a receiver of positions
    sensors/records_camera.txt        number of the record, camera, photo
    sensors/records_gnss.txt          the same number, receiver, longitude, latitude, altitude
    sensors/records_data/             the photos, or a link to the folder they are named from
    reconstruction/global_features/KIND/, keypoints/KIND/, descriptors/KIND/, matches/KIND/

Fields end at commas, so names hold none. A photo's upper left corner is 0, 0 here, the centre of
its first pixel a half. Source: the description of the format (kapture_format.adoc; Humenberger et
al., "Robust Image Retrieval-based Visual Localization using Kapture", 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.feature_files import PairMatches, PhotoDescriptor, PhotoKeypoints
from whence.data.tables import read_text
from whence.errors import InputError, UnreadableTable
from whence.runtime import atomic_write

VERSION = "# kapture format: 1.1"
SENSORS, CAMERAS, PLACES = (
    "sensors/sensors.txt",
    "sensors/records_camera.txt",
    "sensors/records_gnss.txt",
)
PHOTOS = "sensors/records_data"
_FEATURES = "reconstruction/global_features"
_RECEIVER, _WGS84 = "gps", "EPSG:4326"
_NUMBERS = {"float": "<f8", "float16": "<f2", "float32": "<f4", "float64": "<f8"}


class PhotoRecord(NamedTuple):
    """One photo, and where it was taken."""

    name: str
    size_px: tuple[int, int] = (0, 0)
    """Width and height; zeros where they are not known."""
    point: tuple[float, float, float] | None = None
    """Latitude, longitude, and metres above the sea, NaN where they are not known."""


def write_records(folder: str | Path, records: Sequence[PhotoRecord]) -> None:
    """Write cameras, photos and positions. Raises `InputError` for names that hold commas, and
    `UnwritableFile`."""
    root = Path(folder)
    sizes = sorted({record.size_px for record in records})
    names = {size: f"camera{number}" for number, size in enumerate(sizes)}
    sensors = [[names[size], "", "camera", "UNKNOWN_CAMERA", *map(str, size)] for size in sizes]
    _write(
        root / SENSORS,
        "sensor_device_id, name, sensor_type, [sensor_params]+",
        [*sensors, [_RECEIVER, "", "gnss", _WGS84]],
    )
    _write(
        root / CAMERAS,
        "timestamp, device_id, image_path",
        ([str(row), names[one.size_px], one.name] for row, one in enumerate(records)),
    )
    _write(
        root / PLACES,
        "timestamp, device_id, x, y, z, utc, dop",
        (
            [
                *(str(row), _RECEIVER),
                *(f"{degrees:.9f}" for degrees in (one.point[1], one.point[0])),
                *(f"{one.point[2] if np.isfinite(one.point[2]) else 0.0:.3f}", "0", "0"),
            ]
            for row, one in enumerate(records)
            if one.point is not None
        ),
    )


def write_global_features(
    folder: str | Path, kind: str, photos: Iterable[PhotoDescriptor], *, dim: int
) -> None:
    """Write descriptors of whole photos, of `dim` float32 each. Raises `UnwritableFile`."""
    root = Path(folder) / _FEATURES / kind
    fields = [kind, "float32", str(dim), "L2"]
    _write(root / "global_features.txt", "name, dtype, dsize, metric_type", [fields])
    for photo in photos:
        _write_numbers(root / f"{photo.name}.gfeat", photo.descriptor.astype("<f4"))


def write_local_features(
    folder: str | Path, kind: str, photos: Iterable[PhotoKeypoints], *, dim: int
) -> int:
    """The number of photos whose keypoints, of `dim` float32 each, were written. Raises
    `UnwritableFile`."""
    points, numbers = (
        Path(folder) / "reconstruction" / part / kind for part in ("keypoints", "descriptors")
    )
    _write(points / "keypoints.txt", "name, dtype, dsize", [[kind, "float32", "2"]])
    _write(
        numbers / "descriptors.txt",
        "name, dtype, dsize, keypoints_type, metric_type",
        [[kind, "float32", str(dim), kind, "L2"]],
    )
    num = 0
    for num, photo in enumerate(photos, 1):  # noqa: B007
        _write_numbers(points / f"{photo.name}.kpt", (photo.keypoints + 0.5).astype("<f4"))
        _write_numbers(numbers / f"{photo.name}.desc", photo.descriptors.astype("<f4"))
    return num


def write_pair_matches(folder: str | Path, kind: str, pairs: Iterable[PairMatches]) -> None:
    """Write rows of keypoints that belong together, and how alike they are; the photo whose name
    comes first in the alphabet first. Raises `UnwritableFile`."""
    root = Path(folder) / "reconstruction" / "matches" / kind
    for pair in pairs:
        (first, second), rows = (pair.first, pair.second), pair.rows
        if first > second:
            (first, second), rows = (second, first), rows[:, ::-1]
        table = np.column_stack([rows, pair.scores]).astype("<f8")
        _write_numbers(root / f"{first}.overlapping" / f"{second}.matches", table)


def read_records(folder: str | Path) -> list[PhotoRecord]:
    """The photos of a folder, in its order, with the positions of receivers at the same moment.

    Raises `UnreadableTable`, also for positions that are not longitude and latitude.
    """
    root = Path(folder)
    receivers, sizes = set[str](), dict[str, tuple[int, int]]()
    for fields in _rows(root / SENSORS, least=3):
        if fields[2] == "camera" and len(fields) >= 6:
            sizes[fields[0]] = _whole(root / SENSORS, fields[4]), _whole(root / SENSORS, fields[5])
        elif fields[2] == "gnss":
            receivers.add(fields[0])
            system = (fields[3:] or [""])[0] or _WGS84
            if system != _WGS84:
                raise UnreadableTable(
                    root / SENSORS,
                    f"positions of {fields[0]} are in {system}; only {_WGS84} is read",
                )
    points = dict[str, tuple[float, float, float]]()
    if (root / PLACES).is_file():
        for fields in _rows(root / PLACES, least=5):
            if fields[1] in receivers:
                lon, lat, altitude = (_number(root / PLACES, one) for one in fields[2:5])
                points.setdefault(fields[0], (lat, lon, altitude))
    return [
        PhotoRecord(fields[2], sizes.get(fields[1], (0, 0)), points.get(fields[0]))
        for fields in _rows(root / CAMERAS, least=3)
    ]


def read_global_features(
    folder: str | Path, names: Iterable[str], *, kind: str = ""
) -> dict[str, np.ndarray]:
    """Descriptors (D,) float32 by name of those photos that have one; the only kind there is, or
    the one that is named.

    Raises `InputError` where there are several and none is named, and `UnreadableTable`.
    """
    root = Path(folder) / _FEATURES
    kinds = sorted(file.parent.name for file in root.glob("*/global_features.txt"))
    if kind not in kinds and (kind or len(kinds) != 1):
        there = f"it has {', '.join(kinds)}" if kinds else "it has none"
        raise InputError(f"{str(folder)!r}: name one kind of global features; {there}")
    root = root / (kind or kinds[0])
    table = root / "global_features.txt"
    if (root / "global_features.tar").is_file():
        raise UnreadableTable(root / "global_features.tar", "unpack it beside itself first")
    fields = next(_rows(table, least=3), None)
    if fields is None or fields[1] not in _NUMBERS:
        raise UnreadableTable(table, f"its numbers are not one of {', '.join(_NUMBERS)}")
    dim, dtype = _whole(table, fields[2]), np.dtype(_NUMBERS[fields[1]])
    descriptors = {}
    for name in names:
        file = root / f"{name}.gfeat"
        if not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
            continue
        numbers = np.frombuffer(file.read_bytes()[: (dim + 1) * dtype.itemsize], np.uint8)
        if len(numbers) != dim * dtype.itemsize:
            raise UnreadableTable(file, f"it does not hold {dim} numbers of {fields[1]}")
        descriptors[name] = numbers.view(dtype).astype(np.float32)
    return descriptors


def _write(path: Path, titles: str, rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        file.write(f"{VERSION}\n# {titles}\n")
        for fields in rows:
            for one in fields:
                if set(one) & set(",\n\r"):
                    raise InputError(f"kapture cannot hold the name {one!r}: a comma ends it there")
            file.write(", ".join(fields) + "\n")


def _write_numbers(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        file.write(numbers.tobytes())


def _rows(path: Path, *, least: int) -> Iterator[list[str]]:
    """Fields of the lines that are no comments."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            fields = [one.strip() for one in line.split(",")]
            if len(fields) < least:
                raise UnreadableTable(path, f"line {number} has {len(fields)} fields, not {least}")
            yield fields


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnreadableTable(path, f"{text!r} is no number") from None


def _whole(path: Path, text: str) -> int:
    number = _number(path, text)
    if not (np.isfinite(number) and number >= 0 and number == int(number)):
        raise UnreadableTable(path, f"{text!r} is no whole number")
    return int(number)
