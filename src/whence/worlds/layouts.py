"""How a world's files lie: one class per layout of the field. Each plans and names the photos and
writes their tables.

folders     [split/]{database, queries/condition, queries_unknown/condition}/@...@.jpg
benchmark   images/{train,val,test}/{database,queries}/@...@.jpg
nordland    as benchmark, two drives of the same frames, mock positions 25 / 10.5 m apart
pairs       as benchmark, an old and a new photo of every view, mock positions a kilometre apart
sf_xl       raw/train/{database, panoramas} and processed/{val,test}/..., several years
gsv_cities  Images/City/City_place_year_month_northdeg_lat_lon_panoid.jpg and Dataframes/City.csv
msls        {train_val,test}/city/{query,database}/{images/key.jpg, raw.csv, postprocessed.csv,
            seq_info.csv}
sequences   [split/]{database,queries}/sequence/@east@north@sequence@frame@key@city@date@.jpg
federated   as folders, many small cities that differ in camera and weather, and clients.csv
labelled    images/town/{gallery, queries_weather}/front_rear/{front,rear}/..., label and depth
            pictures beside
megascenes  images/ABC/DEF/... and reconstruct/ABC/DEF/colmap/0/{cameras,images,points3D}.bin,
            landmarks by several cameras
revisited   jpg/NAME.jpg and gnd_world.json, landmarks, and queries with easy, hard and junk photos
scannet     scans/sceneRRRR_SS/{color,depth,pose,intrinsic}, rooms and corridors, each gone through
            twice
mesh        [split/]{real_database, synt_database, queries}, renders of a coarse mesh, and the mesh
            as OBJ
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whence.data.names import parse_name
from whence.data.panoramas import CROP_DEG
from whence.data.partition import CellOptions, Partition, make_partition
from whence.data.placed_files import read_placed_files
from whence.errors import NoPhotos, UnknownName
from whence.worlds import tables
from whence.worlds.capture import CaptureOptions, CityShots, Shot
from whence.worlds.conditions import Run
from whence.worlds.drives import (
    as_crops,
    plan_drives,
    plan_places,
    spread,
    thinned,
    twice,
    with_mesh,
)
from whence.worlds.plan import CityPlan
from whence.worlds.presets import CitySize
from whence.worlds.scene_layouts import MegaScenes, Revisited, ScanNet
from whence.worlds.standard import Folders, split_folder
from whence.worlds.works import CityWork

if TYPE_CHECKING:
    from whence.worlds.photographer import Photographer
    from whence.worlds.raster import Raster


class Benchmark(Folders):
    """The folders of the Deep Visual Geo-localization Benchmark; Pittsburgh, Tokyo, St Lucia,
    Eynsham and others in its form."""

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return f"images/{size.split or 'test'}/{shot.role}/{name}"


class SameFrames(Benchmark):
    """The same views twice, under two conditions; names hold mock positions by which frames belong
    together."""

    def __init__(self, step_m: float) -> None:
        self.step_m = step_m

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return twice(super().shots(plan, replace(size, num_queries=0, num_unknown=0), options))

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        mock = f"@0@{shot.frame * self.step_m:.2f}@@@@@{shot.frame:06d}@@@@@@@@.jpg"
        return super().path(size, shot, mock, run)


class SfXl(Folders):
    """San Francisco eXtra Large: panoramas of several years and crops of them, evaluation sets with
    queries by kind.

    Crops are cut out of panoramas, 12 of each, and named by the heading of their left column,
    panoramas by that of their middle. Where is trained, a stop comes every other metre in each of
    three years: enough crops for classes of 10 m and 30 degrees, and panoramas for cells of 15 m. A
    world of one city is trained on its later three years and tested on the first.
    """

    SPACING_M = (1.8, 2.2)
    NUM_CROPS, NUM_YEARS = 12, 3
    TEST_EVERY = 4
    """Of the first year's stops, those of a city that is trained on too."""

    def cities(self, cities: tuple[CitySize, ...]) -> tuple[CitySize, ...]:
        """The same streets as with other layouts, photographed more densely where is trained."""
        usual = CaptureOptions()
        per_stop = (
            self.NUM_CROPS / len(usual.headings_deg) * sum(usual.spacing_m) / sum(self.SPACING_M)
        )
        return tuple(
            replace(size, num_database=round(size.num_database * per_stop * self._runs(size)))
            if _is_trained(size)
            else size
            for size in cities
        )

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        return replace(
            options,
            width=options.height,
            headings_deg=tuple(360 / self.NUM_CROPS * k for k in range(self.NUM_CROPS)),
            database_field_deg=CROP_DEG,
            num_database_runs=self._runs(size),
            spacing_m=self.SPACING_M if _is_trained(size) else options.spacing_m,
        )

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        shots = super().shots(plan, size, options)
        if not size.split:
            shots = thinned(shots, run=0, every=self.TEST_EVERY)
        runs = range(options.num_database_runs) if _is_trained(size) else ()
        return as_crops(shots, panoramas_of=frozenset(run for run in runs if size.split or run > 0))

    def _runs(self, size: CitySize) -> int:
        return (self.NUM_YEARS + (not size.split)) if _is_trained(size) else 1

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        is_training = size.split == "train" or (not size.split and shot.run > 0)
        if is_training and shot.role == "database":
            return f"raw/train/{'panoramas' if shot.is_panorama else 'database'}/{name}"
        kind = {
            "night": "queries_night",
            "occluded": "queries_occlusion",
            "overcast": "queries_v2",
        }.get(shot.condition, "queries_v1")
        role = {"database": "database", "queries": "queries" if size.split == "val" else kind}.get(
            shot.role, "queries_unknown"
        )
        return f"processed/{size.split or 'test'}/{role}/{name}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """Lists of the folders' photos, which spare reading large folders."""
        tables.write_image_lists(out, [named.path for work in works for named in work.named_shots])

    def remarks(self, out: Path) -> tuple[str, ...]:
        """How many classes and cells there is enough of to learn from."""
        found = []
        for folder, options, what in (
            ("database", CellOptions(), "classes of 10 m and 30 degrees"),
            ("panoramas", CellOptions(15.0, 360.0, 3, 1, 5), "cells of 15 m"),
        ):
            try:
                files = read_placed_files(out / "raw" / "train" / folder)
                found.append(
                    _kept(
                        make_partition(
                            files.east_m, files.north_m, files.heading_deg, options=options
                        ),
                        what,
                    )
                )
            except NoPhotos as error:
                found.append(f"{folder}: {error}")
        return tuple(found)


class GsvCities(Folders):
    """Google Street View Cities: places with several photos, and a table for each city."""

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        return replace(options, num_database_runs=4)

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return plan_places(plan, num_photos=size.num_database, options=options)

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return f"Images/{tables.gsv_city(size)}/{tables.gsv_name(size, shot, name)}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        tables.write_gsv(out, works)


class Msls(Folders):
    """Mapillary Street-Level Sequences: keys as names, tables by city and side."""

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return plan_drives(
            plan,
            city=size.name,
            num_database=size.num_database,
            num_queries=size.num_queries,
            options=options,
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return f"{tables.msls_folder(size, shot.role)}/images/{tables.msls_key(size, shot)}.jpg"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        tables.write_msls(out, works)


class Sequences(Msls):
    """Mapillary Street-Level Sequences as SeqVLAD reformats them: a folder for each sequence."""

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        fields = parse_name(name)
        assert fields is not None, "worlds name their photos"
        plane, day = fields.plane, run.time(shot.seconds)
        assert plane is not None, "with a position"
        key = tables.msls_key(size, shot)
        # Two decimals cut, not rounded, as the field's converter does.
        east, north = (
            f"{np.floor(value * 100) / 100:010.2f}" for value in (plane.east_m, plane.north_m)
        )
        file = f"@{east}@{north}@{shot.sequence}@{shot.frame}@{key}@{size.name}@{day:%Y%m%d}@.jpg"
        return f"{split_folder(size)}{shot.role}/{shot.sequence}/{file}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """The names say everything."""


class Federated(Folders):
    """Many small cities, each with a camera and a weather of its own, and the table of clients."""

    CLIENT_PHOTOS = 150

    def cities(self, cities: tuple[CitySize, ...]) -> tuple[CitySize, ...]:
        found: list[CitySize] = []
        for size in cities:
            count = (
                max(2, round(size.num_database / self.CLIENT_PHOTOS))
                if size.split in ("", "train")
                else 1
            )
            for _ in range(count):
                name = f"city{len(found):03d}"
                database, queries, unknown = (
                    n // count for n in (size.num_database, size.num_queries, size.num_unknown)
                )
                found.append(
                    CitySize(name, size.split, database, queries, unknown, size.is_test_city)
                )
        return tuple(found)

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        number = size.number
        field_deg = 52.0 + 5.5 * (number * 7 % 6)
        return replace(
            options,
            conditions=spread(options.conditions, seed=number, favourite_share=0.5),
            database_field_deg=field_deg,
            queries_field_deg=(field_deg - 4, field_deg + 4),
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        condition = "" if shot.role == "database" else f"{shot.condition}/"
        return f"{split_folder(size)}{shot.role}/{condition}{size.name}/{name}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        tables.write_clients(out, works)


class Labelled(Folders):
    """The tree of IDDA: views ahead and behind, each with a picture of classes and one of depth."""

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        return replace(
            options, headings_deg=(0.0, 180.0), max_yaw_deg=min(15.0, options.max_yaw_deg)
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        fields = parse_name(name)
        assert fields is not None, "worlds name their photos"
        assert fields.plane is not None, "with a position"
        day = run.time(shot.seconds)
        folder = "gallery" if shot.role == "database" else f"{shot.role}_{shot.condition}"
        side = "front" if shot.tile == 0 else "rear"
        unix = calendar.timegm(day.timetuple())
        file = (
            f"@{fields.plane.east_m:.3f}@{fields.plane.north_m:.3f}@{size.name}@{shot.condition}@car@{unix}"
            f"@0.0@{shot.grid_heading_deg:.2f}@0.0@{shot.number}@.jpg"
        )
        return f"images/{size.name}/{folder}/front_rear/{side}/{file}"

    def write_truth(self, out: Path, path: str, raster: Raster, photographer: Photographer) -> None:
        tables.write_labels(out, path, raster)


class Mesh(Folders):
    """Photos, and the same views rendered from a coarse textured mesh of the city, which is written
    too."""

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return with_mesh(super().shots(plan, size, options))

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        if shot.role != "database":
            return f"{split_folder(size)}{shot.role}/{shot.condition}/{name}"
        if not shot.is_mesh:
            return f"{split_folder(size)}real_database/{name}"
        head, _, _ = name.rpartition(f"@{shot.condition}@")
        return f"{split_folder(size)}synt_database/{head}@art_prob_0.0000@.jpg"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        from whence.worlds.mesh import write_mesh
        from whence.worlds.scene import Scene

        (out / "mesh").mkdir(exist_ok=True)
        for work in works:
            if not (out / "mesh" / f"{work.size.name}.obj").is_file():
                write_mesh(
                    out / "mesh" / f"{work.size.name}.obj",
                    Scene(work.plan, px_per_m=5.0, is_coarse=True),
                )


def _is_trained(size: CitySize) -> bool:
    """Whether a city is for training, perhaps among other things."""
    return size.split in ("", "train")


def _kept(partition: Partition, what: str) -> str:
    counts = partition.photos.counts
    kept = counts[partition.groups.members]
    most = (
        f"have at least {partition.options.min_photos} photos, {np.median(kept):.0f} at the median"
    )
    return (
        f"{len(kept)} of {len(counts)} {what} {most}; "
        f"they hold {100 * kept.sum() / counts.sum():.0f} % of the photos, in "
        f"{len(partition.groups.counts)} groups"
    )


LAYOUTS: Mapping[str, Folders] = {
    "folders": Folders(),
    "benchmark": Benchmark(),
    "nordland": SameFrames(25 / 10.5),
    "pairs": SameFrames(1000.0),
    "sf_xl": SfXl(),
    "gsv_cities": GsvCities(),
    "msls": Msls(),
    "sequences": Sequences(),
    "federated": Federated(),
    "labelled": Labelled(),
    "mesh": Mesh(),
    "megascenes": MegaScenes(),
    "scannet": ScanNet(),
    "revisited": Revisited(),
}


def get_layout(name: str) -> Folders:
    """The layout of that name. Raises `UnknownName`."""
    if name not in LAYOUTS:
        raise UnknownName("layout", name, LAYOUTS)
    return LAYOUTS[name]
