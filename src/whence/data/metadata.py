"""What is known about a photo file without decoding its pixels: size, hash, position, heading,
time.

Sources, the most trusted first: a table given explicitly (CSV, GeoJSON), sidecar files (XMP,
Takeout), an "@" file name, EXIF, and the XMP packet inside the photo.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from whence.data.clocks import Clocks
from whence.data.decoding import OpenPicture, open_file, open_picture, reasons
from whence.data.elsewhere import plain_name, status_of
from whence.data.exif import clocks_from_exif, placement_from_exif
from whence.data.placement import (
    Placement,
    contradiction_m,
    is_null_island,
    merge_placements,
    placement_from_name,
    without_position,
)
from whence.data.positions import PositionTable
from whence.data.remarks import Remark
from whence.data.sidecars import find_sidecars, read_sidecar
from whence.data.xmp import placement_from_xmp
from whence.errors import MissingExtra, UnreadableImage, UnreadableTable
from whence.types import Photo


class ReadPhoto(NamedTuple):
    """The record of a photo, and what is to be said of it."""

    photo: Photo
    remarks: tuple[Remark, ...] = ()


def read_metadata(
    path: str | Path, *, positions: PositionTable | None = None, allow_null_island: bool = False
) -> Photo:
    """The record of a photo file: size, content hash, and what its sources say about position,
    heading and time.

    A damaged EXIF block or packet inside counts as none, and so does latitude 0, longitude 0,
    unless `allow_null_island`. Raises `UnreadableImage` for what is no picture and
    `UnreadableTable` for a broken sidecar.
    """
    path = Path(path)
    return read_photo(
        path,
        name=path.as_posix(),
        table_row=None if positions is None else positions.find(Path(os.path.abspath(path))),
        sidecar_rows=[read_sidecar(sidecar) for sidecar in find_sidecars(path)],
        allow_null_island=allow_null_island,
    ).photo


def read_clocks(path: str | Path) -> Clocks:
    """The clocks of a photo, by its EXIF block; silent for what cannot be read."""
    try:
        with open_file(path, is_whole=False) as file, reasons(str(path)):
            return clocks_from_exif(open_picture(file, name=str(path)).exif)
    except (UnreadableImage, MissingExtra):
        return Clocks()


def read_photo(
    path: str | Path,
    *,
    name: str,
    table_row: Placement | None,
    sidecar_rows: Sequence[Placement],
    content: str = "",
    allow_null_island: bool = False,
) -> ReadPhoto:
    """The record of a photo called `name`, merged from the rows given, its name and what is inside
    the file.

    `content` is its hash where known; else the file is read once for it. Raises `UnreadableImage`.
    """
    with open_file(path) as file, reasons(str(path)):
        status = status_of(path, file)
        file.seek(0)
        if not content:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            file.seek(0)
        picture = open_picture(file, name=str(path))
        width, height = picture.upright_size
        from_exif = placement_from_exif(picture.exif)
        from_xmp = _placement_inside(picture)
    stated = [
        row
        for row in (
            table_row,
            *sidecar_rows,
            placement_from_name(plain_name(name)),
            from_exif,
            from_xmp,
        )
        if row is not None
    ]
    rows = (
        stated
        if allow_null_island
        else [without_position(row) if is_null_island(row.point) else row for row in stated]
    )
    placed = merge_placements(rows)
    remarks = [Remark("refused", name, row.doubt) for row in rows if row.doubt]
    if rows != stated:
        remarks.append(Remark("no fix", name))
    elif (gap := contradiction_m(placed, from_exif)) is not None:
        remarks.append(
            Remark(
                "contradiction", name, f"{gap:.0f} m" if gap < 10_000 else f"{gap / 1000:.0f} km"
            )
        )
    photo = Photo(
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
        size_bytes=status.size_bytes,
        mtime_ns=status.mtime_ns,
        ctime_ns=status.ctime_ns,
    )
    return ReadPhoto(photo, tuple(remarks))


def _placement_inside(picture: OpenPicture) -> Placement:
    """What the XMP packet inside a photo says; nothing where there is none or it is damaged."""
    try:
        return (
            placement_from_xmp(picture.xmp, path=picture.name, source="xmp")
            if picture.xmp
            else Placement("xmp")
        )
    except UnreadableTable:
        return Placement("xmp")
