"""A database for hloc and from it: files of descriptors, keypoints and matches, and positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whence.data.feature_files import (
    read_descriptors,
    write_descriptors,
    write_keypoints,
    write_matches,
)
from whence.data.scan import scan_photos
from whence.index.store import Store
from whence.localize.kept_features import (
    Exported,
    KeptFeatures,
    add_described,
    network_of_queries,
)
from whence.runtime import atomic_write

DESCRIPTORS, KEYPOINTS, MATCHES, POSITIONS = (
    "global-descriptors.h5",
    "keypoints.h5",
    "matches.h5",
    "positions.txt",
)


def export_hloc(
    path: str | Path,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    pairs: str | Path | None = None,
) -> Exported:
    """A report of what a database knows, written to a folder, photos named from `root` or as in the
    database.

    Descriptors, kept keypoints (in pixels of the photos), mutual nearest neighbours of the
    keypoints of `pairs` (a file as hloc writes it), and positions as COLMAP's model aligner takes
    them: name, latitude, longitude, altitude. Raises `MissingExtra`, and as `KeptFeatures` and
    `Store.open` do.
    """
    folder = Path(folder)
    with Store.open(path) as store:
        features = KeptFeatures(store, root=root, pairs=pairs)
        folder.mkdir(parents=True, exist_ok=True)
        write_descriptors(folder / DESCRIPTORS, features.descriptors())
        if features.with_keypoints:
            write_keypoints(folder / KEYPOINTS, features.keypoints())
        if features.pairs:
            write_matches(folder / MATCHES, features.matches())
        with atomic_write(folder / POSITIONS, "w") as file:
            for row in features.rows_with_point:
                lat, lon, altitude = features.place(row)
                known = altitude if np.isfinite(altitude) else 0.0
                file.write(f"{features.names[row]} {lat:.9f} {lon:.9f} {known:.3f}\n")
        return features.report()


def import_hloc(
    file: str | Path,
    *,
    path: str | Path,
    photos: str | Path,
    model: str,
    positions: str | Path | None = None,
) -> int:
    """The number of photos under a folder whose descriptors, in hloc's format, became the database
    `path`. Photos that the file lacks are left out. Raises `MissingExtra`, and as `add_described`
    and `scan_photos` do.
    """
    network = network_of_queries(model)
    scanned = scan_photos(photos, positions=positions)
    described = {one.name: one.descriptor for one in read_descriptors(file)}
    return add_described(path, scanned, described, file=file, photos=photos, model=network)
