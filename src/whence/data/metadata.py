"""What is known about a photo file without decoding its pixels: size, hash, position, heading, time.

Sources, the most trusted first: a table given explicitly (CSV, GeoJSON), a sidecar file (XMP, Takeout), an "@" file name, EXIF.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from whence.data.decoding import open_file, open_picture, reasons
from whence.data.exif import placement_from_exif
from whence.data.placement import Placement, merge_placements, placement_from_name
from whence.data.positions import PositionTable
from whence.data.sidecars import find_sidecar, read_sidecar
from whence.types import Photo


def read_metadata(path: str | Path, *, positions: PositionTable | None = None) -> Photo:
    """The record of a photo file: size, content hash, and what its sources say about position, heading and time.

    A damaged EXIF block counts as none. Raises `UnreadableImage` for what is no picture and `UnreadableTable` for a broken sidecar.
    """
    path = Path(path)
    sidecar = find_sidecar(path)
    return read_photo(
        path,
        name=path.as_posix(),
        table_row=None if positions is None else positions.find(Path(os.path.abspath(path))),
        sidecar_row=None if sidecar is None else read_sidecar(sidecar),
    )


def read_photo(
    path: str | Path, *, name: str, table_row: Placement | None, sidecar_row: Placement | None, content: str = ""
) -> Photo:
    """The record of a photo called `name`, merged from the rows given, its name and its EXIF block.

    `content` is its hash where known; else the file is read once for it. Raises `UnreadableImage`.
    """
    with open_file(path) as file, reasons(str(path)):
        status = os.fstat(file.fileno())
        if not content:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            file.seek(0)
        picture = open_picture(file, name=str(path))
        width, height = picture.upright_size
        from_exif = placement_from_exif(picture.exif)
    rows = (table_row, sidecar_row, placement_from_name(name), from_exif)
    placed = merge_placements(row for row in rows if row is not None)
    return Photo(
        path=name,
        content=content,
        point=placed.point,
        plane=placed.plane,
        point_source=placed.source,
        heading_deg=placed.heading_deg,
        heading_is_magnetic=placed.heading_is_magnetic,
        error_m=placed.error_m,
        time=placed.time,
        width=width,
        height=height,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )
