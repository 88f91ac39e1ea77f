"""Data sets for training and for special tasks, as the field lays them out: SF-XL, GSV-Cities,
clients, labels, pairs with renders.

Standard folders, lists of pairs and walks with the same frames are in `whence.data.formats`, drives
in `whence.data.drives`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet, read_folders
from whence.data.panoramas import heading_of_middle, require_panoramas
from whence.data.photos import Photos
from whence.data.placed_files import list_of
from whence.data.scan import ReadOptions, list_photos, read_files, read_list
from whence.data.tables import read_text
from whence.errors import NoPhotos, UnreadableTable
from whence.geo import to_utm, utm_zone
from whence.types import GeoPoint, Photo, PlanePoint

DEFAULT_OPTIONS = ReadOptions()


@dataclass(frozen=True)
class PlacePhotos:
    """Photos and the place each shows; photos of one place carry the same number."""

    photos: Photos
    place: np.ndarray
    """(N,) int64."""


@dataclass(frozen=True)
class ClientPhotos:
    """Training photos held by clients."""

    photos: Photos
    client: np.ndarray
    """(N,) int64."""
    is_query: np.ndarray
    """(N,) bool."""
    city: np.ndarray
    """(N,) text."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with a picture of classes each, and of depth where the set has one."""

    photos: Photos
    labels: tuple[Path, ...]
    depths: tuple[Path | None, ...]
    view: np.ndarray
    """(N,) text: front, rear, left, right, or empty."""


@dataclass(frozen=True)
class MeshPairs:
    """Photos and renders of the same views; row i of one shows what row i of the other shows."""

    real: Photos
    rendered: Photos


def read_sf_xl(
    root: str | Path, *, which: str = "database", options: ReadOptions = DEFAULT_OPTIONS
) -> Photos:
    """SF-XL's training photos: `which` is database (crops), panoramas, or processed (crops).
    Headings are those of their middle.

    A list beside the folder, `database_images_paths.txt`, is read instead of the folder where there
    is one. Every file is opened: for millions of them there is `whence.data.placed_files`. Raises
    `NoPhotos`, and `InputError` for panoramas of another shape and for crops that are panoramas.
    """
    folder = sf_xl_folder(root, which)
    listing = list_of(folder)
    files = (
        read_list(listing, folder=folder)
        if listing.is_file()
        else list_photos(folder)
        if folder.is_dir()
        else []
    )
    photos = require_photos(read_files(files, root=folder, options=options), folder)
    are_panoramas = which == "panoramas"
    sizes = zip(photos.width.tolist(), photos.height.tolist(), strict=True)
    require_panoramas(sizes, photos.paths, are_wanted=are_panoramas)
    return photos if are_panoramas else with_middle_headings(photos)


def sf_xl_folder(root: str | Path, which: str) -> Path:
    """Where SF-XL's training photos lie: `which` is database, panoramas or processed."""
    return (
        Path(root) / "processed" / "train"
        if which == "processed"
        else Path(root) / "raw" / "train" / which
    )


def with_middle_headings(crops: Photos) -> Photos:
    """Crops of SF-XL, whose names carry the heading of the left column, with that in which they
    look."""
    return crops.with_columns(heading_deg=heading_of_middle(crops.heading_deg))


def read_sf_xl_test(
    root: str | Path,
    *,
    split: str = "test",
    queries: str = "",
    options: ReadOptions = DEFAULT_OPTIONS,
) -> EvaluationSet:
    """SF-XL's evaluation sets: `queries` is the folder's name, queries_v1 by default for the test
    split.

    Headings of the database, which holds crops, are those of their middle; queries keep what their
    names say.
    """
    queries = queries or ("queries_v1" if split == "test" else "queries")
    folder = Path(root) / "processed" / split
    found = read_folders(
        folder, database_folder="database", queries_folder=queries, options=options
    )
    return replace(found, database=with_middle_headings(found.database))


def read_gsv_cities(
    root: str | Path,
    *,
    cities: Sequence[str] | None = None,
    min_photos: int = 4,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> PlacePhotos:
    """GSV-Cities: the photos of every place with at least `min_photos` of them. Places of different
    cities get different numbers.

    Rows whose photo is missing are left out. Raises `UnreadableTable` and `NoPhotos`.
    """
    root = Path(root)
    names = (
        sorted(path.stem for path in (root / "Dataframes").glob("*.csv"))
        if cities is None
        else list(cities)
    )
    files: list[Path] = []
    places: list[int] = []
    positions: list[tuple[float, float, float, int, int]] = []
    for number, city in enumerate(names):
        path = root / "Dataframes" / f"{city}.csv"
        for line, row in table_rows(
            path, ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
        ):
            try:
                place, year, month, north = (
                    int(row[name]) for name in ("place_id", "year", "month", "northdeg")
                )
                lat, lon = float(row["lat"]), float(row["lon"])
            except ValueError as error:
                raise UnreadableTable(path, str(error), line=line) from None
            # The original's names repeat the coordinates as Python writes the parsed numbers.
            name = (
                f"{row['city_id']}_{place % 10**5:07d}_{year:04d}_{month:02d}_{north:03d}_{lat}_"
                f"{lon}_{row['panoid']}.jpg"
            )
            files.append(root / "Images" / row["city_id"] / name)
            places.append(place % 10**5 + number * 10**5)
            positions.append((lat, lon, float(north), year, month))
    photos, rows = existing_photos(files, root, options)
    photos = _placed(photos, np.array(positions).reshape(-1, 5)[rows])
    place = np.array(places, np.int64)[rows]
    _, member, counts = np.unique(place, return_inverse=True, return_counts=True)
    kept = counts[member] >= min_photos if len(place) else np.zeros(0, bool)
    return PlacePhotos(require_photos(photos.select(kept), root), place[kept])


def read_clients(
    root: str | Path, *, table: str = "clients.csv", options: ReadOptions = DEFAULT_OPTIONS
) -> ClientPhotos:
    """A federated split: a table of image_path, client_id, role (db or query), city. Raises
    `UnreadableTable` and `NoPhotos`."""
    root = Path(root)
    path = root / table
    rows = list(table_rows(path, ("image_path", "client_id", "role", "city")))
    for line, row in rows:
        if not row["client_id"].isdigit() or row["role"] not in ("db", "query"):
            raise UnreadableTable(path, "client_id is a number, role is db or query", line=line)
    photos, kept = existing_photos([root / row["image_path"] for _, row in rows], root, options)
    held = [rows[k][1] for k in kept]
    return ClientPhotos(
        require_photos(photos, root),
        np.array([int(row["client_id"]) for row in held], np.int64),
        np.array([row["role"] == "query" for row in held], bool),
        np.array([row["city"] for row in held]),
    )


def read_labelled(
    root: str | Path, *, town: str, role: str = "gallery", options: ReadOptions = DEFAULT_OPTIONS
) -> LabelledPhotos:
    """IDDA's tree: images/town/role/.../name.jpg with labels in
    images/town/role_labels/.../name.png, depth in role_depth.

    `role`: gallery, or queries_weather, whose labels lie in queries_labels_weather. Photos without
    labels are left out.
    """
    base = Path(root) / "images" / town
    folder = base / role
    labels, depths = (base / _beside(role, what) for what in ("labels", "depth"))
    files = list_photos(folder) if folder.is_dir() else []
    files = [file for file in files if _same(file, folder, labels).is_file()]
    photos = require_photos(read_files(files, root=folder, options=options), folder)
    kept = [folder / path for path in photos.paths]
    views = [
        next((part for part in Path(path).parts if part in ("front", "rear", "left", "right")), "")
        for path in photos.paths
    ]
    return LabelledPhotos(
        photos,
        tuple(_same(file, folder, labels) for file in kept),
        tuple(depth if (depth := _same(file, folder, depths)).is_file() else None for file in kept),
        np.array(views),
    )


def read_mesh_pairs(
    root: str | Path, *, split: str = "", options: ReadOptions = DEFAULT_OPTIONS
) -> MeshPairs:
    """MeshVPR's training pairs: photos in real_database, renders in synt_database whose names carry
    art_prob in the note field.

    Photos without a render, and renders without a photo, are left out.
    """
    base = Path(root) / split
    real = (
        {Path(file).name: file for file in list_photos(base / "real_database")}
        if (base / "real_database").is_dir()
        else {}
    )
    by_key = {_without_note(name): file for name, file in real.items()}
    pairs = []
    for file in list_photos(base / "synt_database") if (base / "synt_database").is_dir() else []:
        partner = by_key.get(_without_note(Path(file).name))
        if partner is not None:
            pairs.append((partner, file))
    photos = read_files([pair[0] for pair in pairs], root=base / "real_database", options=options)
    renders = read_files([pair[1] for pair in pairs], root=base / "synt_database", options=options)
    both = sorted(
        set(read_rows(photos, [p[0] for p in pairs]))
        & set(read_rows(renders, [p[1] for p in pairs]))
    )
    row_of_photo = {k: row for row, k in enumerate(read_rows(photos, [p[0] for p in pairs]))}
    row_of_render = {k: row for row, k in enumerate(read_rows(renders, [p[1] for p in pairs]))}
    rows = np.array([[row_of_photo[k], row_of_render[k]] for k in both], int).reshape(-1, 2)
    return MeshPairs(require_photos(photos.select(rows[:, 0]), base), renders.select(rows[:, 1]))


def table_rows(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a CSV file with a header; lines that start with # before it are
    passed over."""
    lines = read_text(path).splitlines()
    start = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.DictReader(lines[start:])
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UnreadableTable(path, f"no column {missing[0]!r}", line=start + 1)
    rows = []
    for row in reader:
        if None in row.values():
            raise UnreadableTable(
                path, "fewer fields than the header", line=start + reader.line_num
            )
        rows.append((start + reader.line_num, row))
    return rows


def require_photos(photos: Photos, folder: Path) -> Photos:
    """The same photos. Raises `NoPhotos` where there are none."""
    if not len(photos):
        raise NoPhotos(f"no photos in {str(folder)!r}")
    return photos


def existing_photos(
    files: Sequence[Path], root: Path, options: ReadOptions
) -> tuple[Photos, np.ndarray]:
    """The readable ones of these files, and which they are."""
    here = [k for k, file in enumerate(files) if file.is_file()]
    photos = read_files([str(files[k]) for k in here], root=root, options=options)
    kept = read_rows(photos, [str(files[k]) for k in here])
    return photos, np.array([here[k] for k in kept], int)


def read_rows(photos: Photos, files: Sequence[str]) -> list[int]:
    """Which of the files each photo of a table is, in order."""
    place = {str(Path(file).resolve()): k for k, file in enumerate(files)}
    return [place[str(photos.file(row).resolve())] for row in range(len(photos))]


def _placed(photos: Photos, rows: np.ndarray) -> Photos:
    """The same photos with latitude, longitude, heading, year, month (N, 5) from a table."""
    records = []
    for photo, (lat, lon, heading, year, month) in zip(photos, rows, strict=True):
        point = GeoPoint(float(lat), float(lon))
        plane = PlanePoint(*to_utm(point, zone=utm_zone(point.lat, point.lon)))
        time = datetime(int(year), int(month), 1) if year else None
        records.append(with_placement(photo, point, plane, float(heading), time))
    return Photos.of(records, root=photos.root, skipped=photos.skipped)


def with_placement(
    photo: Photo,
    point: GeoPoint | None,
    plane: PlanePoint | None,
    heading_deg: float | None,
    time: datetime | None,
) -> Photo:
    """The photo with a position, heading and time from a table."""
    return replace(
        photo, point=point, plane=plane, point_source="csv", heading_deg=heading_deg, time=time
    )


def _beside(role: str, what: str) -> str:
    """gallery -> gallery_labels; queries_rain -> queries_labels_rain."""
    head, mark, tail = role.rpartition("_")
    return f"{head}_{what}_{tail}" if mark and head.startswith("queries") else f"{role}_{what}"


def _same(file: str | Path, folder: Path, other: Path) -> Path:
    """The picture in another folder that belongs to a photo of this one."""
    return other / Path(file).resolve().relative_to(folder.resolve()).with_suffix(".png")


def labels_beside(file: str | Path, folder: Path) -> Path:
    """The picture of classes of a photo in one of IDDA's folders of a town: gallery, queries_rain,
    ..."""
    return _same(file, folder, folder.with_name(_beside(folder.name, "labels")))


def _without_note(name: str) -> str:
    """A file name without its note field, by which renders find their photos."""
    parts = name.split("@")
    return "@".join([*parts[:-2], "", parts[-1]]) if len(parts) > 2 else name
