"""Tiles as places with an image a year. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.data.scan import ReadOptions, list_photos, read_files
from whence.data.tiles import overlap_matrix, parse_footprint_name, tile_boxes
from whence.errors import NoPhotos
from whence.training.datasets import Dataset


@dataclass(frozen=True)
class TilePlaces:
    """P places, each with one tile of every year."""

    photos: Photos
    rows: np.ndarray
    """(P, Y) rows of the photos, years ascending."""
    years: tuple[int, ...]
    boxes: np.ndarray
    """(P, 4) south, west, north, east."""

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> dict[str, int]:
        """How much there is."""
        return {
            "num_photos": int(self.rows.size),
            "num_places": len(self),
            "num_years": len(self.years),
        }

    def overlaps(self, places: np.ndarray) -> np.ndarray:
        """(B, B) bool: which of some places overlap; each does itself, and its duplicates."""
        return overlap_matrix(self.boxes[places])


def read_photos(data: Dataset) -> Photos:
    """The photos from orbit beside the tiles of a data set. Raises `NoPhotos`."""
    root = _root(data)
    folder = root / "queries"
    if not folder.is_dir():
        raise NoPhotos(
            f"{str(root)!r} holds no folder queries: photos are needed to learn from them"
        )
    photos = read_files(
        list_photos(folder), root=folder, options=ReadOptions(show_progress=data.show_progress)
    )
    data.report(photos.skipped)
    return photos


def _root(data: Dataset) -> Path:
    path = data.folder("tiles")
    root = next(
        (
            folder
            for folder in (path, path / "train", path / "test")
            if (folder / "database").is_dir()
        ),
        None,
    )
    if root is None:
        raise NoPhotos(
            f"{str(path)!r} holds no tiles of years: expected are folders such as database/2021_09"
        )
    return root


def read_tiles(data: Dataset) -> TilePlaces:
    """The places of a data set in EarthLoc's folders that are there in every year. Raises
    `NoPhotos`."""
    root = _root(data)
    photos = read_files(
        list_photos(root / "database"),
        root=root / "database",
        options=ReadOptions(show_progress=data.show_progress),
    )
    data.report(photos.skipped)
    found: dict[tuple[int, ...], dict[int, int]] = {}
    for row, name in enumerate(photos.paths):
        named = parse_footprint_name(name)
        if named is not None and named.tile is not None and named.time is not None:
            found.setdefault(named.tile, {})[named.time.year] = row
    years = tuple(sorted({year for of_place in found.values() for year in of_place}))
    whole = sorted(tile for tile, of_place in found.items() if len(of_place) == len(years))
    if not whole or len(years) < 2:
        raise NoPhotos(f"{str(root)!r}: no tile is there in each of at least two years")
    rows = np.array([[found[tile][year] for year in years] for tile in whole], np.int64)
    return TilePlaces(photos, rows, years, tile_boxes(np.array(whole)))
