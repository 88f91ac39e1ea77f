"""Layouts of scenes: landmarks as MegaScenes holds them, rooms as ScanNet does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.colmap import ModelImage, as_quaternion, write_model
from whence.runtime import atomic_write
from whence.worlds.capture import CaptureOptions, CityShots, Shot, shot_camera
from whence.worlds.conditions import Run
from whence.worlds.landmarks import POINT_M, number_points, plan_landmarks, seen_points
from whence.worlds.plan import CityPlan
from whence.worlds.presets import CitySize
from whence.worlds.rooms import RoomPhotographer, make_room, plan_scans
from whence.worlds.standard import Folders
from whence.worlds.tables import depth_of, write_png
from whence.worlds.works import CityWork, NamedShot

if TYPE_CHECKING:
    from whence.worlds.photographer import Photographer
    from whence.worlds.raster import Raster

_PER_CITY = 1000
"""Scenes that a city has at most: their numbers follow from the city's."""


class MegaScenes(Folders):
    """Landmarks with a model of 3-D points each, as COLMAP writes it; the points follow from the
    depth of the photos.

    Two photos share a point where both see the same piece of a front. What each photo sees is kept
    in `seen/`.
    """

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return plan_landmarks(plan, num_photos=size.num_database, num_queries=0, options=options)

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return f"images/{_landmark(size, shot)}/{_picture(shot)}"

    def write_truth(self, out: Path, path: str, raster: Raster, photographer: Photographer) -> None:
        file = _seen_file(out, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, is_flushed=False) as data:
            np.save(data, seen_points(raster).astype(np.float32))

    def write_last(self, out: Path, works: Sequence[CityWork]) -> None:
        """The models of all landmarks."""
        for work in works:
            held: dict[str, list[NamedShot]] = {}
            for named_shot in work.named_shots:
                held.setdefault(_landmark(work.size, named_shot.shot), []).append(named_shot)
            for landmark, shown in held.items():
                seen = [
                    np.load(_seen_file(out, named_shot.path)).astype(float) for named_shot in shown
                ]
                numbers, points = number_points(seen)
                images, cameras = [], []
                for camera_number, (named_shot, rows, own) in enumerate(
                    zip(shown, seen, numbers, strict=True), start=1
                ):
                    camera = shot_camera(named_shot.shot, seed=work.plan.seed, options=work.capture)
                    k = camera.intrinsics
                    cameras.append(
                        (
                            camera.width,
                            camera.height,
                            np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]),
                        )
                    )
                    # One view of a point counts once.
                    own, first = np.unique(own, return_index=True)
                    turn, columns, lines = (
                        as_quaternion(camera.rotation),
                        rows[first, 0],
                        rows[first, 1],
                    )
                    picture = _picture(named_shot.shot)
                    images.append(
                        ModelImage(
                            picture, turn, camera.translation, camera_number, columns, lines, own
                        )
                    )
                write_model(
                    out / "reconstruct" / landmark / "colmap" / "0",
                    images,
                    cameras=cameras,
                    points=points,
                )


class Revisited(MegaScenes):
    """Landmarks as the revisited Oxford and Paris sets hold them: jpg/NAME.jpg and gnd_world.json.

    How well a photo shows a query's landmark follows from the points of it that both see: easy from
    `EASY` of the query's points on, by a light that is not the night's; junk below `JUNK`; hard
    between.
    """

    EASY, JUNK = 0.4, 0.08

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return plan_landmarks(
            plan, num_photos=size.num_database, num_queries=size.num_queries, options=options
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return f"jpg/{_landmark(size, shot).replace('/', '')}_{shot.number:06d}.jpg"

    def write_last(self, out: Path, works: Sequence[CityWork]) -> None:
        """The ground truth of all cities."""
        shown = [(work.size, named_shot) for work in works for named_shot in work.named_shots]
        database = [one for one in shown if one[1].shot.role == "database"]
        queries = [one for one in shown if one[1].shot.role != "database"]
        seen = {
            named_shot.path: np.load(_seen_file(out, named_shot.path)).astype(float)
            for _, named_shot in shown
        }
        graded = []
        for size, query in queries:
            grades: dict[str, list[int]] = {"easy": [], "hard": [], "junk": []}
            own = _cubes(seen[query.path])
            for row, (other, named_shot) in enumerate(database):
                if _landmark(size, query.shot) == _landmark(other, named_shot.shot):
                    share = len(own & _cubes(seen[named_shot.path])) / max(1, len(own))
                    is_dark = "night" in (named_shot.shot.condition, query.shot.condition)
                    grade = (
                        "junk"
                        if share < self.JUNK
                        else "easy"
                        if share >= self.EASY and not is_dark
                        else "hard"
                    )
                    grades[grade].append(row)
            pixels = seen[query.path][:, :2]
            box = [*pixels.min(axis=0), *pixels.max(axis=0) + 1] if len(pixels) > 1 else []
            graded.append({**grades, "bbx": [float(value) for value in box]})
        truth = {
            "imlist": [Path(named_shot.path).stem for _, named_shot in database],
            "qimlist": [Path(named_shot.path).stem for _, named_shot in queries],
            "gnd": graded,
        }
        with atomic_write(out / "gnd_world.json", "w") as file:
            json.dump(truth, file)


def _cubes(points: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.floor(points[:, 2:] / POINT_M).astype(int).tolist()))


class ScanNet(Folders):
    """Rooms and corridors that a camera was carried through, with depth and poses; some of them a
    second time, in another light."""

    FRAMES = 24
    """Of a scan."""

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        return plan_scans(
            plan,
            num_database=size.num_database,
            num_queries=size.num_queries,
            frames=self.FRAMES,
            options=options,
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        return (
            f"scans/scene{size.number * _PER_CITY + shot.place:04d}_{shot.role == 'queries':02d}/"
            f"color/{shot.frame}.jpg"
        )

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        return replace(
            options, headings_deg=(0.0,), database_field_deg=82.0, queries_field_deg=(74.0, 90.0)
        )

    def photographer(self, work: CityWork, *, px_per_m: float, cache_bytes: int) -> Any:
        return RoomPhotographer(
            work.plan, work.shots.runs, options=work.capture, cache_bytes=cache_bytes
        )

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """The pose of every frame, from camera to room, and the intrinsics of every scan."""
        for work in works:
            for named in work.named_shots:
                camera = shot_camera(named.shot, seed=work.plan.seed, options=work.capture)
                pose = np.eye(4)
                pose[:3, :3] = camera.rotation.T
                pose[:3, 3] = camera.centre - make_room(work.plan.seed, named.shot.place).corner
                scan = (out / named.path).parent.parent
                _write_matrix(scan / "pose" / f"{named.shot.frame}.txt", pose)
                if named.shot.frame == 0:
                    for kind in ("color", "depth"):
                        matrix = np.eye(4)
                        matrix[:3, :3] = camera.intrinsics
                        _write_matrix(scan / "intrinsic" / f"intrinsic_{kind}.txt", matrix)

    def write_truth(self, out: Path, path: str, raster: Raster, photographer: Photographer) -> None:
        """Depth in millimetres, as ScanNet has it."""
        millimetres = np.minimum(depth_of(raster).astype(np.uint32) * 10, 65535).astype(np.uint16)
        color = out / path
        write_png(color.parent.parent / "depth" / f"{color.stem}.png", millimetres)


def _landmark(size: CitySize, shot: Shot) -> str:
    digits = f"{size.number * _PER_CITY + shot.place:06d}"
    return f"{digits[:3]}/{digits[3:]}"


def _picture(shot: Shot) -> str:
    return f"commons/landmark/0/pictures/{shot.number:06d}.jpg"


def _seen_file(out: Path, path: str) -> Path:
    return (out / "seen" / path.removeprefix("images/").removeprefix("jpg/")).with_suffix(".npy")


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w", is_flushed=False) as file:
        file.write("\n".join(" ".join(f"{value:.6f}" for value in row) for row in matrix) + "\n")
