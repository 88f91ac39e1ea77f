"""A database as a folder in kapture's format, and from one."""

from __future__ import annotations

from pathlib import Path

from whence.data.kapture_files import (
    PHOTOS,
    SENSORS,
    PhotoRecord,
    read_global_features,
    read_records,
    write_global_features,
    write_local_features,
    write_pair_matches,
    write_records,
)
from whence.data.placement import Placement
from whence.data.positions import PositionTable
from whence.data.scan import scan_photos
from whence.index.store import Store
from whence.localize.kept_features import (
    Exported,
    KeptFeatures,
    add_described,
    network_of_queries,
)
from whence.types import GeoPoint

KEYPOINTS = "RootSIFT"


def is_kapture(folder: str | Path) -> bool:
    """Whether a folder is one of kapture's."""
    return (Path(folder) / SENSORS).is_file()


def export_kapture(
    path: str | Path,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    pairs: str | Path | None = None,
) -> Exported:
    """A report of what a database knows, written to a folder as `whence.data.kapture_files` says,
    photos named from `root` or as in the database; the photos themselves are not copied.

    `pairs` is a file as hloc writes it. Raises as `KeptFeatures`, `Store.open` and `write_records`.
    """
    with Store.open(path) as store:
        features = KeptFeatures(store, root=root, pairs=pairs)
        placed = set(features.rows_with_point)
        records = [
            PhotoRecord(name, features.size(row), features.place(row) if row in placed else None)
            for row, name in enumerate(features.names)
        ]
        write_records(folder, records)
        kind = store.card_id.replace("/", "-")
        write_global_features(folder, kind, features.descriptors(), dim=store.descriptors.shape[1])
        if features.with_keypoints:
            dim = next(features.keypoints()).descriptors.shape[1]
            write_local_features(folder, KEYPOINTS, features.keypoints(), dim=dim)
        write_pair_matches(folder, KEYPOINTS, features.matches())
        return features.report()


def import_kapture(
    folder: str | Path,
    *,
    path: str | Path,
    model: str,
    photos: str | Path | None = None,
    positions: str | Path | None = None,
) -> int:
    """The number of photos of a folder in kapture's format whose global features became the
    database `path`, with the positions of its receivers unless a table of `positions` is given.

    `photos`: where they lie, if not in the folder. Raises as `read_records`,
    `read_global_features`, `add_described` and `scan_photos`.
    """
    network = network_of_queries(model)
    root = Path(folder) / PHOTOS if photos is None else photos
    records = read_records(folder)
    rows = {
        one.name: Placement("kapture", GeoPoint(one.point[0], one.point[1]))
        for one in records
        if one.point is not None
    }
    table = PositionTable(str(folder), rows) if rows and positions is None else positions
    described = read_global_features(folder, [one.name for one in records])
    scanned = scan_photos(root, positions=table)
    return add_described(path, scanned, described, file=folder, photos=root, model=network)
