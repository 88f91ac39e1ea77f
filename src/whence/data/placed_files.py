"""Many files with their positions and headings, read from their "@" names alone, by columns: tens
of millions within a few GB.

Nothing of the files themselves is opened, and the names stay on disk. The fields are those of
`whence.data.names`; the position is taken as its metres and zone say it, without what `parse_name`
compares it with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.names import parse_name
from whence.data.photos import Photos
from whence.data.planes import photos_on_plane
from whence.data.scan import list_photos
from whence.data.tables import FileFinder
from whence.errors import NoPhotos, UnreadableTable

_CHUNK_BYTES = 1 << 19
_AT, _LINE_END, _DOT, _SLASH = (ord(letter) for letter in "@\n./")
_NUM_SIGNS = 15
_EAST, _NORTH, _NUMBER, _LETTER, _HEADING = 0, 1, 2, 3, 8
"""Places of fields after the first "@"."""
_LONGEST_BYTES = 8192
_MOST_FIGURES = 7
"""Before and behind the point: both together are then a whole number that float64 holds."""
_ZONE = re.compile(r"(0?[1-9]|[1-5][0-9]|60)[C-HJ-NP-X]")


@dataclass(frozen=True)
class PlacedFiles:
    """N files under a folder, in the order of their list."""

    root: Path
    east_m: np.ndarray
    """(N,) float64; NaN where the name states no position."""
    north_m: np.ndarray
    heading_deg: np.ndarray
    """(N,) float32, as the name says it; NaN where it does not."""
    zone: np.ndarray | str
    """UTM zone of all, or of each (N,) text."""
    names: Names

    def __len__(self) -> int:
        return len(self.east_m)

    def file(self, row: int) -> Path:
        """Where the file of a row lies on this machine."""
        return Path(self._finder.find(self.names.of(row)))

    @cached_property
    def _finder(self) -> FileFinder:
        return FileFinder(self.root)

    @classmethod
    def of_photos(cls, photos: Photos) -> PlacedFiles:
        """The same of photos that were scanned, on one plane."""
        east, north, zone = photos_on_plane(photos)
        return cls(photos.root, east, north, photos.heading_deg, zone, Names.of_texts(photos.paths))


class Names:
    """Names as the lines of a list, mapped from disk where it lies there, and where each begins."""

    def __init__(self, data: np.ndarray, starts: np.ndarray) -> None:
        self._data, self._starts = data, starts

    def of(self, row: int) -> str:
        """The name of a row."""
        start = self._starts[row]
        line = bytes(self._data[start : start + _LONGEST_BYTES]).partition(b"\n")[0]
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Names:
        """Of names that are in memory."""
        lines = [text.encode("utf-8", "surrogateescape") + b"\n" for text in texts]
        lengths = np.array([len(line) for line in lines], np.int64)
        return cls(np.frombuffer(b"".join(lines), np.uint8), np.cumsum(lengths) - lengths)


def list_of(folder: Path) -> Path:
    """Where the list of a folder's files lies: beside it."""
    return folder.with_name(f"{folder.name}_images_paths.txt")


def read_placed_files(folder: str | Path, *, listing: str | Path | None = None) -> PlacedFiles:
    """The files of a folder with what their names say, from its list where there is one, else by
    looking.

    A list holds one path a line, relative to the folder; without `listing` it is
    `folder_images_paths.txt` beside the folder. Raises `UnreadableTable`, and `NoPhotos` where
    there is nothing.
    """
    folder = Path(folder)
    path = list_of(folder) if listing is None else Path(listing)
    if path.is_file():
        size = path.stat().st_size
        data = np.memmap(path, np.uint8, mode="r") if size else np.empty(0, np.uint8)
        with open(path, "rb") as file:
            parsed = list(map(_parse, _chunks(iter(lambda: file.read(_CHUNK_BYTES), b""))))
    elif folder.is_dir():
        top = str(folder.absolute())
        text = "\n".join(name[len(top) :].lstrip("/\\") for name in list_photos(folder)).encode(
            "utf-8", "surrogateescape"
        )
        data = np.frombuffer(text, np.uint8)
        parsed = list(map(_parse, _chunks(iter([text]))))
    else:
        parsed = []
    if not any(len(one.east_m) for one in parsed):
        raise NoPhotos(f"no photos in {str(folder)!r}, and no list {path.name!r} beside it")
    if any(one.is_binary for one in parsed):
        raise UnreadableTable(path, "it holds zero bytes: it is not a list of paths")
    east, north, heading = (
        np.concatenate([getattr(one, name) for one in parsed])
        for name in ("east_m", "north_m", "heading_deg")
    )
    codes = np.concatenate([one.zone for one in parsed])
    kinds = _kinds(codes)
    zone: np.ndarray | str = "".join(_zone(kind) for kind in kinds)
    if len([kind for kind in kinds if kind]) > 1:
        zone = np.array([_zone(kind).encode() for kind in kinds], "S3")[
            np.searchsorted(kinds, codes)
        ]
    return PlacedFiles(
        folder,
        east,
        north,
        heading,
        zone,
        Names(data, np.concatenate([one.starts for one in parsed])),
    )


class _Parsed(NamedTuple):
    """Columns of one piece of a list."""

    east_m: np.ndarray
    north_m: np.ndarray
    heading_deg: np.ndarray
    zone: np.ndarray
    """(n,) int32: the letters of the zone as one number, 0 for none."""
    starts: np.ndarray
    """(n,) where each line begins in the list."""
    is_binary: bool


def _chunks(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Whole lines: where they begin in the file, and their bytes, the last with its line end."""
    at, rest = 0, b""
    for piece in pieces:
        whole, end, tail = (rest + piece).rpartition(b"\n")
        if end:
            yield at, whole + end
            at += len(whole) + 1
        rest = tail
    if rest:
        yield at, rest + b"\n"


def _parse(chunk: tuple[int, bytes]) -> _Parsed:
    at, data = chunk
    padded = np.frombuffer(data + bytes(8), np.uint8)
    if (alike := _parse_alike(data, padded, at)) is not None:
        return alike
    text = padded[:-8]
    starts, ends, rows, signs = _fields(data, text)
    if b"/" in data:
        # What stands before the first sign is a folder; none stands behind it.
        slashes = np.flatnonzero(text == _SLASH)
        begins = signs[:, 0]
        is_name = (begins == starts[rows]) | (text[np.maximum(begins - 1, 0)] == _SLASH)
        is_name &= np.searchsorted(slashes, begins) == np.searchsorted(slashes, ends[rows])
    else:
        is_name = signs[:, 0] == starts[rows]
    if not is_name.all():
        rows, signs = rows[is_name], signs[is_name]
    fields = [_numbers(padded, signs[:, k] + 1, signs[:, k + 1]) for k in (_EAST, _NORTH, _HEADING)]
    is_turned = (fields[2] >= 360) & np.isfinite(fields[2])
    fields[2][is_turned] %= 360
    zone, is_zoned = _zones(text, signs)
    is_good = is_zoned & ~np.isinf(fields[2]) & np.isfinite(fields[0] + fields[1]) & (fields[0] > 0)
    columns = np.full((3, len(starts)), np.nan)
    zones, good = np.zeros(len(starts), np.int32), rows[is_good]
    columns[:, good], zones[good] = np.stack(fields)[:, is_good], zone[is_good]
    is_read = np.zeros(len(starts), bool)
    is_read[good] = True
    for row in np.flatnonzero(~is_read).tolist():
        found = parse_name(data[starts[row] : ends[row]].decode("utf-8", "surrogateescape"))
        if found is not None and found.plane is not None:
            columns[:2, row] = found.plane.east_m, found.plane.north_m
            zones[row] = _code(found.plane.zone)
        if found is not None and found.heading_deg is not None:
            columns[2, row] = found.heading_deg
    return _Parsed(
        columns[0], columns[1], columns[2].astype(np.float32), zones, starts + at, b"\0" in data
    )


def _parse_alike(data: bytes, padded: np.ndarray, at: int) -> _Parsed | None:
    """The columns of lines of one length with the same signs in the same places, as they mostly
    are; None for others."""
    width = data.find(b"\n") + 1
    num, rest = divmod(len(data), width)
    first = data[: width - 1].split(b"@")
    if (
        rest
        or len(first) != _NUM_SIGNS + 1
        or first[0]
        or b"/" in data
        or b"\r" in data
        or data.count(b"\n") != num
    ):
        return None
    table = padded[: len(data)].reshape(num, width)
    signs = table == _AT
    if not (signs == signs[0]).all() or not (table[:, -1] == _LINE_END).all():
        return None
    begins = np.cumsum([0, *(len(field) + 1 for field in first)])[1:]
    zone = slice(int(begins[_NUMBER]), int(begins[_LETTER + 1]) - 1)
    name = first[_NUMBER + 1] + first[_LETTER + 1]
    if (
        not (table[:, zone] == table[0, zone]).all()
        or len(name) != 3
        or not _ZONE.fullmatch(name.decode("latin-1"))
    ):
        return None
    columns = []
    for k in (_EAST, _NORTH, _HEADING):
        whole, dot, parts = first[k + 1].partition(b".")
        start = int(begins[k])
        column, is_number = _strided_figures(padded, start, width, num, len(whole))
        if dot:
            decimals, is_whole = _strided_figures(
                padded, start + len(whole) + 1, width, num, len(parts)
            )
            is_number = (
                is_number and is_whole and bool((table[:, start + len(whole)] == _DOT).all())
            )
            column = _decimal(column, decimals, len(parts))
        if not is_number:
            return None
        columns.append(column)
    if columns[0].min() <= 0 or columns[2].max() >= 360:
        return None
    zones = np.full(num, _code(name.decode("latin-1")), np.int32)
    starts = np.arange(at, at + len(data), width)
    return _Parsed(
        columns[0], columns[1], columns[2].astype(np.float32), zones, starts, b"\0" in data
    )


def _strided_figures(
    text: np.ndarray, start: int, width: int, num_rows: int, num: int
) -> tuple[np.ndarray, bool]:
    """Whole numbers (n,) that stand at one place of lines of one width, and whether all are."""
    if not 0 < num <= _MOST_FIGURES:
        return np.empty(0), False
    words = np.ndarray((num_rows,), "<u8", buffer=text, offset=start, strides=(width,)).copy()
    found, is_figure = _figures(words, num)
    return found, bool(is_figure.all())


def _decimal(whole: np.ndarray, parts: np.ndarray, num: int) -> np.ndarray:
    """Numbers (n,) of what stands before the point, and `num` figures behind it.

    A whole number below 2^53, divided by a power of ten, is rounded as `float` rounds the text.
    """
    return np.asarray((whole * 10.0**num + parts) / 10.0**num)


def _fields(data: bytes, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the lines that hold anything begin and end (n,), which of them have fifteen signs (m,),
    and where those are (m, 15)."""
    signs = np.flatnonzero(text == _AT)
    ends = np.flatnonzero(text == _LINE_END)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if b"\r" in data:
        ends = ends - (text[ends - 1] == ord("\r"))
    is_line = ends > starts
    starts, ends = starts[is_line], ends[is_line]
    first = np.searchsorted(signs, starts)
    rows = np.flatnonzero(np.searchsorted(signs, ends) - first == _NUM_SIGNS)
    return starts, ends, rows, signs[np.add.outer(first[rows], np.arange(_NUM_SIGNS))]


def _numbers(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Plain numbers of the text as float64: NaN for an empty one, infinite for one that is written
    in another way.

    `text` goes on for eight bytes behind the last number.
    """
    found = np.full(len(starts), np.inf)
    lengths = ends - starts
    for length in _kinds(lengths):
        rows = (
            slice(None)
            if len(lengths) and (lengths == length).all()
            else np.flatnonzero(lengths == length)
        )
        if length == 0:
            found[rows] = np.nan
            continue
        begins = starts[rows]
        first = bytes(text[begins[0] : begins[0] + length])
        before, dot, after = first.partition(b".")
        if not 0 < len(before) <= _MOST_FIGURES or (dot and not 0 < len(after) <= _MOST_FIGURES):
            continue
        every = np.ndarray((len(text) - 7,), "<u8", buffer=text, strides=(1,))
        whole, is_number = _figures(every[begins], len(before))
        if dot:
            parts, is_whole = _figures(every[begins + len(before) + 1], len(after))
            is_number &= is_whole & (text[begins + len(before)] == _DOT)
            whole = _decimal(whole, parts, len(after))
        found[rows] = np.where(is_number, whole, np.inf)
    return found


def _figures(words: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers (n,) of the first `num` bytes of words of eight, written over, and whether they
    are figures (n,): by shifts."""
    words <<= np.uint64(8 * (8 - num))
    words |= np.uint64(0x3030303030303030 >> 8 * num if num < 8 else 0)
    high = np.uint64(0xF0F0F0F0F0F0F0F0)
    is_figure = (words & high) | (((words + np.uint64(0x0606060606060606)) & high) >> np.uint64(4))
    found = is_figure == np.uint64(0x3333333333333333)
    for mask, factor, shift in _PAIRS:
        words &= mask
        words *= factor
        words >>= shift
    return words.astype(np.float64), found


_PAIRS = tuple(
    (np.uint64(mask), np.uint64(factor), np.uint64(shift))
    for mask, factor, shift in (
        (0x0F0F0F0F0F0F0F0F, 2561, 8),
        (0x00FF00FF00FF00FF, 6553601, 16),
        (0x0000FFFF0000FFFF, 42949672960001, 32),
    )
)
"""Neighbouring figures, pairs and fours become one number: masks, factors and shifts of eight
figures in a word."""


def _zones(text: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The zone's two figures and letter as one number (n,) int32, and whether they are written so
    (n,)."""
    number, letter = signs[:, _NUMBER] + 1, signs[:, _LETTER] + 1
    is_zoned = (signs[:, _NUMBER + 1] - number == 2) & (signs[:, _LETTER + 1] - letter == 1)
    codes = text[number].astype(np.int32)
    for place in (number + 1, letter):
        codes <<= 8
        codes |= text[place]
    for code in _kinds(codes):
        if not _ZONE.fullmatch(_zone(code)):
            is_zoned &= codes != code
    return codes, is_zoned


def _kinds(codes: np.ndarray) -> list[int]:
    """The numbers that occur, most often one."""
    if not len(codes):
        return []
    return (
        [int(codes[0])] if (codes == codes[0]).all() else [int(code) for code in np.unique(codes)]
    )


def _zone(code: int) -> str:
    return code.to_bytes(3, "big").lstrip(b"\0").decode("latin-1")


def _code(zone: str) -> int:
    return int.from_bytes(zone.encode("latin-1"), "big")
