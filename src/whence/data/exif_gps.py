"""GPS tags for copies of photos, without touching pixels or anything else the file holds.

Nothing in the EXIF block is moved: the GPS directory and a first directory that points to it are
appended, and the block's header is set to them. So offsets inside maker notes and the embedded
preview stay valid. Source: TIFF 6.0, Exif 2.32 (CIPA DC-008), PNG 3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from whence.data.decoding import read_source
from whence.data.geotags import Geotag
from whence.errors import UnreadableImage

_EMPTY_BLOCK = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
_EXIF_MARK = b"Exif\0\0"
_MAX_SEGMENT_BYTES = 0xFFFF - 2
_MAX_ENTRIES = 4096
_GPS_POINTER = 0x8825
_BYTE, _ASCII, _LONG, _RATIONAL = 1, 2, 4, 5
_REPLACED = frozenset((*range(7), 9, 10, 11, 18, 31))
"""Tags that describe a position; those of an earlier one do not survive."""
_PNG_START = b"\x89PNG\r\n\x1a\n"


class _Field(NamedTuple):
    tag: int
    kind: int
    num_values: int
    value: bytes


def with_gps_tags(photo: str | Path, geotag: Geotag) -> bytes:
    """The bytes of a JPEG, PNG or TIFF file with the position in its EXIF block; everything else as
    it was.

    Raises `UnreadableImage` for other formats and for a file whose structure is damaged.
    """
    data, name = read_source(photo)
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg_with_gps(data, geotag)
        if data.startswith(_PNG_START):
            return _png_with_gps(data, geotag)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return block_with_gps(data, geotag)
    except (struct.error, IndexError):
        raise UnreadableImage(
            name, "its structure is damaged or cut off; a sidecar can hold the position"
        ) from None
    except ValueError as error:
        raise UnreadableImage(name, f"{error}; a sidecar can hold the position") from None
    raise UnreadableImage(
        name, "GPS tags are written into JPEG, PNG and TIFF only; a sidecar can hold the position"
    )


def block_with_gps(block: bytes, geotag: Geotag) -> bytes:
    """An EXIF block (TIFF structure) with the position in it. Raises `ValueError` for a damaged
    one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError("its EXIF block is damaged")
    first, following = _directory(block, struct.unpack_from(order + "I", block, 4)[0], order)
    kept: list[bytes] = []
    for entry in first:
        if struct.unpack_from(order + "H", entry)[0] == _GPS_POINTER:
            kept, _ = _directory(block, struct.unpack_from(order + "I", entry, 8)[0], order)
    replaced = _REPLACED | (frozenset() if geotag.heading_deg is None else {16, 17})
    kept = [entry for entry in kept if struct.unpack_from(order + "H", entry)[0] not in replaced]
    result = bytearray(block) + b"\0" * (len(block) % 2)
    gps_at = _append(result, kept, _gps_fields(geotag, order), order, following=0)
    others = [entry for entry in first if struct.unpack_from(order + "H", entry)[0] != _GPS_POINTER]
    pointer = _Field(_GPS_POINTER, _LONG, 1, struct.pack(order + "I", gps_at))
    struct.pack_into(
        order + "I", result, 4, _append(result, others, [pointer], order, following=following)
    )
    return bytes(result)


def _directory(block: bytes, start: int, order: str) -> tuple[list[bytes], int]:
    """Entries (12 bytes each) of the directory at `start`, and where the next directory is."""
    num = struct.unpack_from(order + "H", block, start)[0]
    end = start + 2 + 12 * num
    if start < 8 or num > _MAX_ENTRIES or end > len(block):
        raise ValueError("its EXIF block is damaged")
    entries = [block[at : at + 12] for at in range(start + 2, end, 12)]
    # Some cameras cut the block off right after the last directory.
    return entries, struct.unpack_from(order + "I", block, end)[0] if end + 4 <= len(block) else 0


def _append(
    result: bytearray, old_entries: list[bytes], fields: list[_Field], order: str, *, following: int
) -> int:
    """Append a directory of kept and new entries, sorted by tag as TIFF demands; gives its
    place."""
    entries = list(old_entries)
    for field in fields:
        value = field.value.ljust(4, b"\0")
        if len(value) > 4:
            value = struct.pack(order + "I", len(result))
            result += field.value + b"\0" * (len(field.value) % 2)
        entries.append(struct.pack(order + "HHI", field.tag, field.kind, field.num_values) + value)
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry)[0])
    start = len(result)
    if start > 0xFFFF_FF00:
        raise ValueError("it is too large for TIFF")
    result += (
        struct.pack(order + "H", len(entries))
        + b"".join(entries)
        + struct.pack(order + "I", following)
    )
    return start


def _gps_fields(geotag: Geotag, order: str) -> list[_Field]:
    def rationals(tag: int, *pairs: tuple[int, int]) -> _Field:
        return _Field(
            tag, _RATIONAL, len(pairs), b"".join(struct.pack(order + "II", *pair) for pair in pairs)
        )

    def text(tag: int, value: str) -> _Field:
        return _Field(tag, _ASCII, len(value) + 1, value.encode("ascii") + b"\0")

    point = geotag.point
    fields = [
        _Field(0, _BYTE, 4, bytes((2, 3, 0, 0))),
        text(1, "NS"[point.lat < 0]),
        rationals(2, *_sexagesimal(point.lat)),
        text(3, "EW"[point.lon < 0]),
        rationals(4, *_sexagesimal(point.lon)),
        text(18, "WGS-84"),
    ]
    if point.altitude_m is not None:
        fields += [
            _Field(5, _BYTE, 1, bytes((point.altitude_m < 0,))),
            rationals(6, (round(abs(point.altitude_m) * 1000), 1000)),
        ]
    if geotag.heading_deg is not None:
        fields += [text(16, "T"), rationals(17, (round(geotag.heading_deg * 100) % 36000, 100))]
    if geotag.error_m is not None:
        fields.append(rationals(31, (round(geotag.error_m * 100), 100)))
    return fields


def _sexagesimal(value: float) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Degrees, minutes and seconds as fractions; rounded before splitting, so minutes and seconds
    stay under 60."""
    scale = 10**6
    whole, rest = divmod(round(abs(value) * 3600 * scale), 3600 * scale)
    minutes, seconds = divmod(rest, 60 * scale)
    return (whole, 1), (minutes, 1), (seconds, scale)


def _jpeg_with_gps(data: bytes, geotag: Geotag) -> bytes:
    insert_at = 2
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE0 and start == 2:
            insert_at = end
        elif marker == 0xE1 and data.startswith(_EXIF_MARK, start + 4):
            return (
                data[:start]
                + _exif_segment(block_with_gps(data[start + 10 : end], geotag))
                + data[end:]
            )
    return data[:insert_at] + _exif_segment(block_with_gps(_EMPTY_BLOCK, geotag)) + data[insert_at:]


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the pixels."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("its JPEG segments are damaged")
        marker = data[at + 1]
        if marker == 0xFF:  # A fill byte.
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            return
        length = struct.unpack_from(">H", data, at + 2)[0]
        if length < 2 or at + 2 + length > len(data):
            raise ValueError("its JPEG segments are damaged")
        yield marker, at, at + 2 + length
        at += 2 + length


def _exif_segment(block: bytes) -> bytes:
    body = _EXIF_MARK + block
    if len(body) > _MAX_SEGMENT_BYTES:
        raise ValueError("its EXIF block is full")
    return struct.pack(">HH", 0xFFE1, len(body) + 2) + body


def _png_with_gps(data: bytes, geotag: Geotag) -> bytes:
    chunks = list(_png_chunks(data))
    old = next((chunk for chunk in chunks if chunk[0] == b"eXIf"), None)
    block = _EMPTY_BLOCK if old is None else data[old[1] + 8 : old[2] - 4]
    body = b"eXIf" + block_with_gps(block, geotag)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    if old is not None:
        return data[: old[1]] + chunk + data[old[2] :]
    return data[: chunks[0][2]] + chunk + data[chunks[0][2] :]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk."""
    at = len(_PNG_START)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError("its PNG chunks are damaged")
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length
