"""Sets of photos from orbit: EarthLoc's folders, whose truth is that footprints overlap, and
folders of a map server's cells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from whence.data.footprints import footprint_of, overlapping
from whence.data.formats import EvaluationSet, SetOptions
from whence.data.maps import cell_middle
from whence.data.photos import Photos
from whence.data.scan import list_photos, read_files
from whence.data.tiles import parse_xyz_path
from whence.errors import NoPhotos, UnreadableTable
from whence.lists import NeighborLists, lists_of

TRUTH_FILE = "queries_intersections_with_db_{year}.json"
"""For each query's file name the paths of its tiles, relative to the set's folder; what the
authors' pickle says, as JSON."""
_YEAR_FOLDER = re.compile(r"([0-9]{4})_[0-9]{2}")


class EarthLoc:
    """EarthLoc's folders: `database/YEAR_ZOOM/...` and `queries/`, below a split where there is
    one."""

    def fits(self, path: Path) -> bool:
        """Whether there are tiles of years."""
        return any(_years(folder / "database") for folder in (path, path / "test", path / "train"))

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The tiles of the last year and the photos; right are the tiles that a photo overlaps, or
        those that the truth file lists.

        Without a split, `test` where there is one. Raises `NoPhotos`.
        """
        root = self.root(path, options.split)
        years = _years(root / "database")
        if not years:
            raise NoPhotos(f"{str(root / 'database')!r} holds no folders of tiles such as 2021_09")
        database = tiles_of_year(root, years[-1], options)
        folder = root / (options.queries_folder or "queries")
        if options.queries_folder and not folder.is_dir():
            raise NoPhotos(f"{str(folder)!r} is no folder of photos")
        queries = (
            read_files(list_photos(folder), root=folder, options=options.reading)
            if folder.is_dir()
            else Photos.of([])
        )
        name = path.name if root == path else f"{path.name}/{root.name}"
        table = root / TRUTH_FILE.format(year=years[-1])
        positives = (
            _listed(table, root, database, queries)
            if table.is_file()
            else overlapping_rows(database, queries)
        )
        return EvaluationSet(name, database, queries, positives)

    @staticmethod
    def root(path: Path, split: str = "") -> Path:
        """The folder that holds `database`."""
        return next(
            (
                path / name
                for name in ([split] if split else ["", "test"])
                if (path / name / "database").is_dir()
            ),
            path / split,
        )


class MapCells:
    """A folder of cells as map servers keep them, ZOOM/COLUMN/ROW.png: a database without
    queries."""

    def fits(self, path: Path) -> bool:
        """False: years, months and days can look alike; name the layout."""
        return False

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        """The cells, each in its middle. Raises `NoPhotos`."""
        files = [
            file
            for file in list_photos(path)
            if parse_xyz_path(Path(file).relative_to(path.absolute()).as_posix())
        ]
        photos = read_files(files, root=path, options=options.reading)
        if not len(photos):
            raise NoPhotos(
                f"{str(path)!r} holds no cells of a map: files are looked for as "
                "ZOOM/COLUMN/ROW.png"
            )
        cells = [parse_xyz_path(name) for name in photos.paths]
        lat, lon = np.array([cell_middle(cell) for cell in cells if cell is not None]).T
        photos = photos.with_columns(lat=lat, lon=lon, point_source=np.full(len(photos), b"name"))
        return EvaluationSet(path.name, photos, Photos.of([]))


def tiles_of_year(root: Path, year: int, options: SetOptions) -> Photos:
    """The tiles of one year below `root`/database, all zooms, sorted by path."""
    folders = sorted(
        folder for folder in (root / "database").iterdir() if folder.name.startswith(f"{year}_")
    )
    files = [file for folder in folders for file in list_photos(folder)]
    return read_files(files, root=root / "database", options=options.reading)


def overlapping_rows(database: Photos, queries: Photos, *, least_iou: float = 0.0) -> NeighborLists:
    """For each query the database rows whose footprint shares an area with its own, or more of it
    than `least_iou`."""
    polygons, rows = footprints_of(database)
    found = []
    for path in queries.paths:
        own = footprint_of(path)
        found.append(
            np.empty(0, np.int64)
            if own is None
            else rows[overlapping(own, polygons, least_iou=least_iou)]
        )
    return lists_of(found)


def footprints_of(photos: Photos) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4, 2) the footprints of the photos that have one, and (M,) their rows."""
    points = np.stack([photos.columns["lat"], photos.columns["lon"]], axis=1)
    found = [
        (row, footprint_of(path, point=tuple(points[row]))) for row, path in enumerate(photos.paths)
    ]
    kept = [(row, corners) for row, corners in found if corners is not None]
    corners = np.stack([one for _, one in kept]) if kept else np.empty((0, 4, 2))
    return corners, np.array([row for row, _ in kept], np.int64)


def _years(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(
        {
            int(match[1])
            for entry in folder.iterdir()
            if (match := _YEAR_FOLDER.fullmatch(entry.name)) and entry.is_dir()
        }
    )


def _listed(table: Path, root: Path, database: Photos, queries: Photos) -> NeighborLists:
    try:
        truth = json.loads(table.read_text(encoding="utf-8"))
        row_of = {f"database/{path}": row for row, path in enumerate(database.paths)}
        found = [
            np.array(
                sorted({row_of[tile] for tile in truth.get(Path(path).name, []) if tile in row_of}),
                np.int64,
            )
            for path in queries.paths
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UnreadableTable(table, f"expected is {{query: [tile, ...]}} ({error})") from None
    return lists_of(found)
