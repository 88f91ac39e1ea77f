"""Evaluation sets in folders and files: how the photos lie is told by what lies there, or by the
name of a layout.

A layout is a part like any other (kind "layout" of `whence.registry`): one of one's own is asked
before those that come along.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from whence.cards import Entry
from whence.data.drives import list_cities, read_msls_set
from whence.data.formats import EvaluationSet, SetOptions, read_folders, read_pairs
from whence.data.layouts import with_middle_headings
from whence.data.scan import ReadOptions
from whence.errors import BadOption, NoPhotos, UnknownName
from whence.registry import KINDS, build

MSLS_VAL_CITIES = ("cph", "sf")


class Layout(Protocol):
    """A way in which the photos of a set lie."""

    def fits(self, path: Path) -> bool:
        """Whether the folder or file is laid out so, as far as a quick look tells; False where none
        can."""
        ...

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The set at the path. Raises an `InputError` where it is none."""
        ...


class Folders:
    """Two folders, database and queries; see `whence.data.formats.read_folders`. Fits whatever
    nothing else does."""

    def fits(self, path: Path) -> bool:
        """True for every path."""
        return True

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The set of the two folders."""
        return read_folders(
            path,
            split=options.split,
            database_folder=options.database_folder,
            queries_folder=options.queries_folder,
            positions=options.positions,
            options=options.reading,
        )


class Pairs:
    """A table of queries and their positives; see `whence.data.formats.read_pairs`."""

    def fits(self, path: Path) -> bool:
        """Whether the path is a file."""
        return path.is_file()

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The set that the table lists."""
        return read_pairs(path, database_folder=options.database_folder, options=options.reading)


class GsvCities:
    """GSV-Cities, which is for training alone."""

    def fits(self, path: Path) -> bool:
        """Whether the folder has its tables and images."""
        return (path / "Dataframes").is_dir() and (path / "Images").is_dir()

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """Nothing: raises `BadOption`, as there are no queries."""
        raise BadOption(
            f"{str(path)!r} is laid out as GSV-Cities: places to train on, without queries to "
            "evaluate"
        )


class SfXl:
    """SF-XL's processed splits."""

    def fits(self, path: Path) -> bool:
        """Whether the folder has processed splits or raw photos to train on."""
        return (path / "processed").is_dir() or (path / "raw" / "train").is_dir()

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The set of a split, test by default, then with queries_v1. The database's headings are
        those of its crops' middle."""
        split = options.split or "test"
        queries_folder = options.queries_folder or ("queries_v1" if split == "test" else None)
        folder = path / "processed" / split
        if queries_folder and not (folder / queries_folder).is_dir():
            raise NoPhotos(f"no folder {str(folder / queries_folder)!r}")
        found = Folders().read(folder, replace(options, split="", queries_folder=queries_folder))
        return replace(found, database=with_middle_headings(found.database))


class MapillaryCities:
    """Mapillary Street-Level Sequences as they are served: a folder for each city."""

    def fits(self, path: Path) -> bool:
        """Whether the folder holds such cities."""
        return bool(list_cities(path))

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The cities of the split train or val, or those it names with commas between them; all
        without."""
        if options.database_folder is not None or options.queries_folder is not None:
            return Folders().read(path, options)
        return read_msls_set(
            path, cities=_msls_cities(path, options.split), options=options.reading
        )


ENTRIES: dict[str, Entry] = {
    name: Entry(f"whence.data.evaluation_sets:{factory}")
    for name, factory in {
        "folders": "Folders",
        "gsv_cities": "GsvCities",
        "sf_xl": "SfXl",
        "msls": "MapillaryCities",
        "pairs": "Pairs",
    }.items()
}
ENTRIES |= {
    "xyz": Entry("whence.data.orbital_sets:MapCells"),
    "earthloc": Entry("whence.data.orbital_sets:EarthLoc"),
}
"""The most general first: layouts are asked from the last on, those that were registered before all
of these."""


def open_set(
    root: str | Path,
    *,
    layout: str = "",
    split: str = "",
    database_folder: str | None = None,
    queries_folder: str | None = None,
    positions: str | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
) -> EvaluationSet:
    """The evaluation set in a folder or file, in the layout of this name, or the one that fits what
    lies there.

    Those that come along: a table of pairs; Mapillary's cities (the split train or val chooses
    cities, any other text names them, separated by commas); SF-XL's processed splits; two folders,
    see `whence.data.formats.read_folders`. Raises `UnknownName` for a layout that does not exist,
    `NoPhotos` and `BadOption`.
    """
    path = Path(root)
    way: Layout = build("layout", layout or recognise(path))
    return way.read(path, SetOptions(split, database_folder, queries_folder, positions, options))


def recognise(path: Path) -> str:
    """The name of the layout that fits: pairs, msls, sf_xl, gsv_cities, one that was registered, or
    folders."""
    for name in reversed(tuple(KINDS["layout"])):
        try:
            way: Layout = build("layout", name)
            if way.fits(path):
                return name
        except Exception as error:
            if name in ENTRIES:
                raise
            warnings.warn(f"the layout {name!r} is passed over: {error}", stacklevel=2)
    return "folders"


def _msls_cities(root: Path, split: str) -> tuple[str, ...]:
    """The cities of a split, or those named; all of them where none of the official validation
    cities is there."""
    known = list_cities(root)
    if split in ("train", "val"):
        chosen = tuple(city for city in known if (city in MSLS_VAL_CITIES) == (split == "val"))
        return chosen if set(known) & set(MSLS_VAL_CITIES) else known
    named = tuple(city for city in split.split(",") if city and city != "test")
    for city in named:
        if city not in known:
            raise UnknownName(f"city in {str(root)!r}", city, known)
    return named or known
