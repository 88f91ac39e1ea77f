"""How fast worlds render, and how time and memory grow.

python benchmarks/world.py            # speed on one core, growth with photos, fronts and resolution
# also 2,500 photos on two cores, a large city's memory, and 4e7 positions
python benchmarks/world.py --full
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from side_by_side import compare, save
from side_by_side import options as benchmark_options

from whence.runtime import set_threads
from whence.worlds.camera import plane_homography
from whence.worlds.capture import CaptureOptions, shot_camera
from whence.worlds.city import WorldOptions, make_spec, render_world
from whence.worlds.photographer import Photographer
from whence.worlds.presets import CitySize
from whence.worlds.raster import PatchInfo, Raster, Texture
from whence.worlds.scene import FAR_M, Scene
from whence.worlds.shards import city_works


def cpu_of_world(options: WorldOptions, *, seed: int) -> tuple[float, int]:
    """CPU seconds of rendering a world on one core, files and textures included, and its number of
    photos."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        summary = render_world(
            Path(folder) / "world", seed=seed, options=options, num_workers=1, show_progress=False
        )
        return time.process_time() - start, summary.num_rendered


def speed(num_database: int, num_queries: int) -> dict[str, float]:
    size = CitySize("city00", "", num_database, num_queries, num_queries // 5)
    seconds, count = cpu_of_world(WorldOptions(cities=(size,)), seed=11)
    patches = visible_patches(
        WorldOptions(cities=(replace(size, num_database=60, num_queries=60),))
    )
    print(
        f"\n{count} photos of 320x240, all conditions, JPEG, textures drawn: "
        f"{1e3 * seconds / count:.1f} ms CPU a photo"
    )
    print(
        f"  {count / seconds:.0f} photos a second and core (bar: 60); median visible patches "
        f"{patches:.0f} (bar: 10)"
    )
    return {"photos_per_core_second": count / seconds, "median_visible_patches": patches}


def visible_patches(options: WorldOptions) -> float:
    work = next(city_works(make_spec("small", seed=11, layout="folders", options=options)))
    photographer = Photographer(
        work.plan, work.shots.runs, options=work.capture, px_per_m=24, cache_bytes=3 * 10**8
    )
    return statistics.median(
        len(np.unique(photographer.take(shot)[1].ids)) for shot in work.shots.shots[::3]
    )


def growth(quick: bool) -> dict[str, list[float]]:
    """CPU seconds at three sizes of everything that may grow."""
    results: dict[str, list[float]] = {}
    base = 60 if quick else 240
    print("\ngrowth (CPU seconds, ms a photo)")
    for count in (base, 2 * base, 4 * base):
        seconds, photos = cpu_of_world(
            WorldOptions(cities=(CitySize("city00", "", count, count // 4, 0),)), seed=12
        )
        results.setdefault("photos", []).append(seconds)
        print(f"  {photos:>6} photos{seconds:>22.1f}{1e3 * seconds / photos:>9.1f}")
    for side in (3, 8, 20):
        options = CaptureOptions(conditions={"day": 1.0})
        seconds, fronts = _city_of_side(side, 60, options)
        results.setdefault("fronts", []).append(seconds)
        print(
            f"  {fronts:>6} fronts in the city, 60 photos{seconds:>10.2f}{1e3 * seconds / 60:>9.1f}"
        )
    for width in (160, 320, 640):
        options = WorldOptions(
            capture=CaptureOptions(width=width, height=width * 3 // 4),
            cities=(CitySize("city00", "", base, base // 4, 0),),
        )
        seconds, photos = cpu_of_world(options, seed=12)
        results.setdefault("resolution", []).append(seconds)
        print(
            f"  {width:>4}x{width * 3 // 4} pixels, {photos} "
            f"photos{seconds:>12.1f}{1e3 * seconds / photos:>9.1f}"
        )
    return results


def _city_of_side(side: int, num_photos: int, capture: CaptureOptions) -> tuple[float, int]:
    """CPU seconds of photos at the start of a city with side x side blocks, planning left out."""
    from whence.worlds.capture import plan_shots
    from whence.worlds.plan import CityOptions, plan_city

    plan = plan_city(5, options=CityOptions(num_columns=side, num_rows=side))
    shots = plan_shots(plan, num_database=num_photos, num_queries=0, num_unknown=0, options=capture)
    photographer = Photographer(
        plan, shots.runs, options=capture, px_per_m=32, cache_bytes=3 * 10**8
    )
    photographer.light(shots.runs[0])
    start = time.process_time()
    for shot in shots.shots:
        photographer.take(shot)
    return time.process_time() - start, len(plan.lots)


def against_painter(rounds: int) -> list:
    """Our raster against painting every front from far to near over the whole picture, with the
    same textures and planes."""
    work = next(city_works(make_spec("tiny", seed=3, layout="folders", options=WorldOptions())))
    scene = Scene(work.plan, px_per_m=16)
    cameras = [
        shot_camera(shot, seed=work.plan.seed, options=work.capture)
        for shot in work.shots.shots[:24]
    ]
    fronts = scene.fronts
    textures = [Texture(np.full((200, 240, 4), 128, np.uint8)) for _ in range(len(work.plan.lots))]

    def near_fronts(camera):  # type: ignore[no-untyped-def]
        gap = fronts.middle - camera.centre[:2]
        faces = ((camera.centre[:2] - fronts.origin[:, :2]) * fronts.outward[:, :2]).sum(
            axis=1
        ) > 0.05
        return np.flatnonzero(((gap**2).sum(axis=1) < FAR_M**2) & faces)

    def ours() -> None:
        for camera in cameras:
            raster = Raster(camera)
            near = near_fronts(camera)
            inverse, corners = raster.project(
                fronts.origin[near], fronts.across[near], fronts.down[near]
            )
            seen = np.flatnonzero(raster.visible(corners))
            order = seen[np.argsort(corners[seen][..., 2].min(axis=1))]
            for k, outline in zip(order, raster.outlines(corners[order]), strict=True):
                if outline is not None:
                    raster.draw(
                        inverse[k],
                        outline,
                        textures[near[k]],
                        PatchInfo(3, (0, 0, 1), int(near[k])),
                    )

    def painter() -> None:
        for camera in cameras:
            picture = np.zeros((camera.height, camera.width, 4), np.uint8)
            near = near_fronts(camera)
            depth = (fronts.middle[near] - camera.centre[:2]) @ camera.rotation[2, :2]
            for k in near[np.argsort(-depth)]:
                corners = np.stack(
                    [
                        fronts.origin[k] + a * fronts.across[k] + b * fronts.down[k]
                        for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
                    ]
                )
                if camera.project(corners)[1].min() < 0.25:
                    continue
                height, width = textures[k].base.shape[:2]
                scale = np.diag([1 / width, 1 / height, 1])
                matrix = (
                    plane_homography(camera, fronts.origin[k], fronts.across[k], fronts.down[k])
                    @ scale
                )
                drawn = cv2.warpPerspective(textures[k].base, matrix, (camera.width, camera.height))
                cv2.copyTo(drawn, drawn[..., 3], picture)

    notes = {
        "ours": "depth buffer, hidden fronts skipped, mip levels",
        "painter": "whole picture per front, no depth, no mip levels",
    }
    return compare(
        "fronts of one view",
        {"ours": ours, "painter": painter},
        peer="painter",
        items=len(cameras),
        rounds=rounds,
        notes=notes,
    )


_METER = """
import resource, sys, time
from pathlib import Path
{body}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_of(body: str) -> tuple[float, int]:
    """Wall seconds and peak memory in MB of some code in a fresh process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _METER.format(body=body)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, int(done.stdout.split()[-1])


def full(folder: Path) -> dict[str, float]:
    """Two cores, a large city, many positions."""
    results = {}
    size = CitySize("city00", "", 2000, 500, 0)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    render_world(
        folder / "two",
        seed=11,
        options=WorldOptions(cities=(size,)),
        num_workers=2,
        show_progress=False,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\n2500 photos with 2 workers: {wall:.0f} s wall, {cpu:.0f} s CPU (bar: 60 s wall)")
    results["two_workers_wall_s"], results["two_workers_cpu_s"] = wall, cpu
    for count in (600, 2400, 12000):
        body = f"""
from whence.worlds.city import *
from whence.worlds.shards import *
options = WorldOptions(cities=(CitySize("city00", "", {count}, 0, 0),))
work = next(city_works(make_spec("small", seed=1, layout="folders", options=options)))
photographer = Photographer(
    work.plan, work.shots.runs, options=work.capture, px_per_m=32, cache_bytes=150_000_000
)
for shot in sorted(work.shots.shots, key=lambda shot: (shot.street, shot.number))[:600]:
    photographer.take(shot)
"""
        seconds, peak = peak_of(body)
        print(
            f"  a city of {count} photos, the first 600 rendered with 150 MB of textures: peak "
            f"{peak} MB, {seconds:.0f} s"
        )
        results[f"peak_mb_city_{count}"] = peak
    for count in (400_000, 4_000_000, 40_000_000):
        out = str(folder / str(count))
        seconds, peak = peak_of(
            f"from whence.worlds.positions import *; write_positions({out!r}, num_photos={count})"
        )
        print(f"  {count:>10} positions: {seconds:.1f} s, peak {peak} MB (bar: 2000 MB)")
        results[f"positions_{count}_peak_mb"] = peak
    return results


def main() -> None:
    parser = benchmark_options(__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="also the long measures")
    args = parser.parse_args()
    set_threads(1)
    facts: dict[str, object] = dict(speed(60, 20) if args.quick else speed(600, 200))
    tables = {"fronts of one view": against_painter(args.rounds)}
    facts["growth"] = growth(args.quick)
    if args.full:
        with tempfile.TemporaryDirectory() as folder:
            facts.update(full(Path(folder)))
    save(args.json, tables)
    if args.json:
        print(json.dumps(facts))


if __name__ == "__main__":
    main()
