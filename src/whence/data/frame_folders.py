"""Folders of frames in order: RobotCar's names, any folders of numbered photos, and which of the
layouts of drives a folder has."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.drives import Frames, SequenceSet, list_cities, read_msls, read_sequences
from whence.data.evaluation_sets import MSLS_VAL_CITIES
from whence.data.formats import DATABASE_FOLDERS, QUERIES_FOLDERS, natural_key
from whence.data.layouts import DEFAULT_OPTIONS, require_photos
from whence.data.photos import Photos
from whence.data.scan import ReadOptions, list_photos, read_files
from whence.errors import NoPhotos
from whence.types import PlanePoint

_DIGITS = re.compile(r"\d+")
NUM_ROBOTCAR_FIELDS = 5
"""Between "@" signs: north, east, lap, index, timestamp. MSLS reformatted has seven."""
_MANY_FIELDS = 7


class _Name(NamedTuple):
    """What a file's name says of its drive and its number."""

    sequence: str
    frame: int | None
    file: str
    is_counted: bool = False
    """Whether the name is of a layout that counts its frames one by one."""


def read_frame_folder(folder: str | Path, *, options: ReadOptions = DEFAULT_OPTIONS) -> Frames:
    """The photos of a folder as frames: each folder that holds photos is a drive, and the last
    number in a name is the frame's.

    Numbers that all grow by multiples of one step, as of every tenth frame of a film, are counted
    in such steps. Where a name has no number, or two of one folder have the same, the frames of
    that folder are counted in natural order of names. RobotCar's "@" names (north first) and those
    of MSLS reformatted say themselves. Raises `NoPhotos`.
    """
    top = Path(folder)
    files = list_photos(top) if top.is_dir() else []
    named = _numbered([_name_of(file, top) for file in files])
    photos = read_files([one.file for one in named], root=top, options=options)
    # Photos that cannot be read are left out and leave a gap, as they should.
    row_of = {str(Path(one.file).absolute()): one for one in named}
    kept = [row_of[str((photos.root / path).absolute())] for path in photos.paths]
    is_north_first = np.array([_num_fields(one.file) == NUM_ROBOTCAR_FIELDS for one in kept], bool)
    photos = require_photos(_swapped(photos, is_north_first), top)
    count = len(photos)
    return Frames(
        photos,
        np.array([one.sequence for one in kept]),
        np.array([one.frame for one in kept], np.int64),
        np.zeros(count, bool),
        np.full(count, ""),
        np.full(count, ""),
    )


def open_sequences(
    root: str | Path,
    *,
    split: str = "",
    database_folder: str | None = None,
    queries_folder: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> SequenceSet:
    """Database and queries as drives, in whichever layout they lie: MSLS as published (`split`
    chooses cities: train, val, or names with commas between), as SeqVLAD reformats it, RobotCar, or
    any two folders of folders of frames, which may be named.

    One joint database over all cities. Raises `NoPhotos` and `UnreadableTable`.
    """
    path = Path(root)
    named = (database_folder, queries_folder)
    if named == (None, None) and (cities := list_cities(path)):
        if split in ("train", "val"):
            chosen = [city for city in cities if (city in MSLS_VAL_CITIES) == (split == "val")]
            cities = tuple(chosen) if set(cities) & set(MSLS_VAL_CITIES) else cities
        elif split:
            cities = tuple(city for city in split.split(",") if city)
        return read_msls(path, cities=cities, options=options)
    base = path / split
    if named == (None, None) and _is_reformatted(base):
        return read_sequences(path, split=split, options=options)
    sides = []
    for given, usual in zip(named, (DATABASE_FOLDERS, QUERIES_FOLDERS), strict=True):
        names = usual if given is None else (given,)
        folder = next((base / name for name in names if (base / name).is_dir()), None)
        if folder is None:
            raise NoPhotos(f"no folder {' or '.join(names[:2])} of drives in {str(base)!r}")
        sides.append(read_frame_folder(folder, options=options))
    return SequenceSet(base.resolve().name, *sides)


def _is_reformatted(base: Path) -> bool:
    """Whether the first photo of the database is named as SeqVLAD names those of MSLS."""
    first = next(
        (file for file in sorted((base / "database").glob("*/@*@*")) if file.is_file()), None
    )
    return first is not None and _num_fields(first.name) == _MANY_FIELDS


def _num_fields(file: str) -> int:
    """Fields between the first and the last "@" of a name."""
    return Path(file).name.count("@") - 1


def _name_of(file: str, top: Path) -> _Name:
    path = Path(file)
    sequence = path.parent.relative_to(top.absolute()).as_posix()
    fields = path.name.split("@")
    if _num_fields(file) in (NUM_ROBOTCAR_FIELDS, _MANY_FIELDS) and fields[4].isdecimal():
        return _Name(sequence, int(fields[4]), file, is_counted=True)
    # In the field's standard name the frame stands in the note, or nowhere; a number of a position
    # is none.
    numbers = _DIGITS.findall(fields[-2] if len(fields) > 3 else path.stem)
    return _Name(sequence, int(numbers[-1]) if numbers else None, file)


def _numbered(names: list[_Name]) -> list[_Name]:
    """The names in the order of drives and frames, those of a drive whose numbers are not all there
    and different counted anew."""
    found: list[_Name] = []
    for sequence in sorted({one.sequence for one in names}):
        own = [one for one in names if one.sequence == sequence]
        numbers = [one.frame for one in own if one.frame is not None]
        if len(set(numbers)) < len(own):
            own = sorted(own, key=lambda one: natural_key(Path(one.file).stem))
            own = [one._replace(frame=number) for number, one in enumerate(own)]
        elif (
            not all(one.is_counted for one in own)
            and (step := math.gcd(*np.diff(sorted(numbers)).tolist())) > 1
        ):
            own = [one._replace(frame=_by_frame(one) // step) for one in own]
        found += sorted(own, key=_by_frame)
    return found


def _by_frame(one: _Name) -> int:
    return one.frame or 0


def _swapped(photos: Photos, is_north_first: np.ndarray) -> Photos:
    """The photos, those whose names put north first with east and north in their order."""
    if not is_north_first.any():
        return photos
    records = [
        replace(photo, plane=PlanePoint(photo.plane.north_m, photo.plane.east_m, photo.plane.zone))
        if swaps and photo.plane is not None
        else photo
        for photo, swaps in zip(photos, is_north_first.tolist(), strict=True)
    ]
    return Photos.of(records, root=photos.root, skipped=photos.skipped, remarks=photos.remarks)
