"""The tables and pictures that belong to the layouts: CSV files of GSV-Cities and MSLS, clients,
image lists, labels."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from whence.data.fields import safe_fields
from whence.data.names import parse_name
from whence.data.placed_files import list_of
from whence.runtime import atomic_write
from whence.worlds.capture import Shot
from whence.worlds.presets import CitySize
from whence.worlds.raster import Raster
from whence.worlds.scene import LABELS
from whence.worlds.works import CityWork

IDDA_IDS = {
    "sky": 20, "road": 7, "sidewalk": 8, "building": 1, "vegetation": 9, "terrain": 19, "pole": 5,
    "sign": 12, "person": 4, "car": 10, "truck": 26, "furniture": 14, "scaffold": 2,
}  # fmt: skip
"""Raw label ids of the IDDA data set by the names of `LABELS`."""
GSV_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
_CENTIMETRES = 100


def _write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], first_line: str = ""
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        if first_line:
            file.write(first_line + "\n")
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(map(safe_fields, rows))


def write_image_lists(out: Path, paths: Sequence[str]) -> None:
    """Beside every folder that holds photos, folder_images_paths.txt with its photos, sorted."""
    held: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        held[folder].append(name)
    for folder, names in held.items():
        target = list_of(out / folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, "w") as file:
            file.write("\n".join(sorted(names)) + "\n")


def gsv_city(size: CitySize) -> str:
    """The city's name as GSV-Cities writes names: letters, the first a capital."""
    return size.name.capitalize()


def gsv_name(size: CitySize, shot: Shot, name: str) -> str:
    """City_place_year_month_northdeg_lat_lon_panoid.jpg."""
    row = _gsv_row(size, shot, name)
    place, year, month, north, city, lat, lon, pano = row
    return f"{city}_{place:07d}_{year:04d}_{month:02d}_{north:03d}_{lat}_{lon}_{pano}.jpg"


def _gsv_row(
    size: CitySize, shot: Shot, name: str
) -> tuple[int, int, int, int, str, float, float, str]:
    fields = parse_name(name)
    assert fields is not None, "worlds name their photos"
    point, day = fields.point, fields.time
    assert point is not None, "with a position"
    assert day is not None, "and a time"
    north = round(fields.heading_deg or 0) % 360
    return (
        shot.place,
        day.year,
        day.month,
        north,
        gsv_city(size),
        point.lat,
        point.lon,
        f"{size.name}p{shot.number:07d}",
    )


def write_gsv(out: Path, works: Sequence[CityWork]) -> None:
    """Dataframes/City.csv for every city."""
    for work in works:
        rows = [_gsv_row(work.size, named.shot, named.name) for named in work.named_shots]
        _write_csv(out / "Dataframes" / f"{gsv_city(work.size)}.csv", GSV_COLUMNS, rows)


def msls_folder(size: CitySize, role: str) -> str:
    """train_val/city/database and so on; the test cities lie apart."""
    return (
        f"{'test' if size.split == 'test' else 'train_val'}/{size.name}/"
        f"{'query' if role == 'queries' else 'database'}"
    )


def msls_key(size: CitySize, shot: Shot) -> str:
    """A photo's key, 22 characters as in the original."""
    return hashlib.blake2b(f"{size.name}/{shot.number}".encode(), digest_size=11).hexdigest()


def write_msls(out: Path, works: Sequence[CityWork]) -> None:
    """raw.csv, postprocessed.csv, seq_info.csv and subtask_index.csv for the database and the
    queries of every city."""
    for work in works:
        for role in ("database", "queries"):
            held = [named for named in work.named_shots if named.shot.role == role]
            tables: dict[str, list[list[object]]] = {
                "raw": [],
                "postprocessed": [],
                "seq_info": [],
                "subtask_index": [],
            }
            for k, named in enumerate(held):
                fields, shot = parse_name(named.name), named.shot
                assert fields is not None, "worlds name their photos"
                key, point, plane = msls_key(work.size, shot), fields.point, fields.plane
                assert point is not None, "with a position"
                assert plane is not None, "in metres too"
                assert fields.time is not None, "and a time"
                is_night = shot.condition == "night"
                cell = int(plane.east_m // 20) * 100_000 + int(plane.north_m // 20) % 100_000
                tables["raw"].append(
                    [
                        k,
                        key,
                        point.lon,
                        point.lat,
                        f"{named.heading_deg:.3f}",
                        f"{fields.time:%Y-%m-%d}",
                        False,
                    ]
                )
                tables["postprocessed"].append(
                    [k, key, plane.east_m, plane.north_m, is_night, False, "Forward", cell]
                )
                tables["seq_info"].append([k, key, shot.sequence, shot.frame])
                tables["subtask_index"].append([k, True, not is_night, is_night])
            folder = out / msls_folder(work.size, role)
            headers = {
                "raw": ["", "key", "lon", "lat", "ca", "captured_at", "pano"],
                "postprocessed": [
                    "",
                    "key",
                    "easting",
                    "northing",
                    "night",
                    "control_panel",
                    "view_direction",
                    "unique_cluster",
                ],
                "seq_info": ["", "key", "sequence_key", "frame_number"],
                "subtask_index": ["", "all", "day", "night"],
            }
            for name, rows in tables.items():
                _write_csv(folder / f"{name}.csv", headers[name], rows)


def write_clients(out: Path, works: Sequence[CityWork]) -> None:
    """clients.csv: which client holds which training photo; its first line is a JSON record of the
    split, behind a #."""
    rows = [
        (named.path, client, "query" if named.shot.role == "queries" else "db", work.size.name)
        for client, work in enumerate(work for work in works if work.size.split in ("", "train"))
        for named in work.named_shots
        if named.shot.role != "queries_unknown"
    ]
    digest = hashlib.blake2b(
        "\n".join(str(row[0]) for row in rows).encode(), digest_size=16
    ).hexdigest()
    record = {
        "split": "city",
        "seed": works[0].plan.seed // 1000 if works else 0,
        "num_images": len(rows),
        "images_hash": digest,
    }
    _write_csv(
        out / "clients.csv",
        ("image_path", "client_id", "role", "city"),
        rows,
        "# " + json.dumps(record),
    )


def labels_of(raster: Raster) -> np.ndarray:
    """Places in `LABELS` by pixel, (H, W) uint8."""
    table = np.array([0, *(info.label for info in raster.infos)], np.uint8)
    labels = table[raster.ids]
    for number, (info, inverse) in enumerate(
        zip(raster.infos, raster.inverses, strict=True), start=1
    ):
        if info.pavement_share:
            rows, columns = np.nonzero(raster.ids == number)
            if len(rows):
                seen = inverse @ np.stack([columns, rows, np.ones_like(rows)])
                across = seen[0] / seen[2]
                is_pavement = np.minimum(across, 1 - across) < info.pavement_share
                labels[rows[is_pavement], columns[is_pavement]] = LABELS.index("sidewalk")
    return np.asarray(labels)


def fronts_of(raster: Raster) -> np.ndarray:
    """1 + the lot of the building front by pixel, 0 for anything else: (H, W) uint16."""
    table = np.array([0, *(info.lot + 1 for info in raster.infos)], np.uint16)
    return np.asarray(table[raster.ids])


def depth_of(raster: Raster) -> np.ndarray:
    """Depth along the optical axis in centimetres, (H, W) uint16; 0 for the sky, 65535 for 655 m
    and beyond."""
    depth = np.zeros(raster.inverse_depth.shape, np.float32)
    np.divide(_CENTIMETRES, raster.inverse_depth, out=depth, where=raster.inverse_depth > 0)
    return np.clip(np.rint(depth), 0, 65535).astype(np.uint16)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture of the truth, whole or not at all. Colours, where there are any, are red,
    green, blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_done, data = cv2.imencode(
        ".png",
        picture[..., ::-1] if picture.ndim == 3 else picture,
        [cv2.IMWRITE_PNG_COMPRESSION, 2],
    )
    assert is_done, "a PNG in memory cannot fail"
    with atomic_write(path, is_flushed=False) as file:
        file.write(data.tobytes())


def write_labels(out: Path, path: str, raster: Raster) -> None:
    """IDDA's label picture of a photo, class id in the red channel, in the folder of labels; its
    depth in the folder of depths."""
    ids = np.array([IDDA_IDS[name] for name in LABELS], np.uint8)[labels_of(raster)]
    red = np.zeros((*ids.shape, 3), np.uint8)
    red[..., 0] = ids
    write_png(out / idda_beside(path, "labels"), red)
    write_png(out / idda_beside(path, "depth"), depth_of(raster))


def idda_beside(path: str, what: str) -> str:
    """Where the labels or depth of a photo lie: gallery -> gallery_labels, queries_rain ->
    queries_labels_rain."""
    stem = path.removesuffix(".jpg") + ".png"
    if "/gallery/" in stem:
        return stem.replace("/gallery/", f"/gallery_{what}/", 1)
    for role in ("/queries_unknown_", "/queries_"):
        if role in stem:
            return stem.replace(role, f"{role}{what}_", 1)
    return stem
