"""How fast photos of a mesh of a million triangles are rendered on one core, and in how much
memory.

python benchmarks/mesh.py                        # 1e4, 1e5 and 1e6 triangles, photos of 320x240
python benchmarks/mesh.py --triangles 1000000
"""

from __future__ import annotations

import json
import resource
import time

import numpy as np
from side_by_side import options as benchmark_options

from whence.data.meshes import TexturedMesh
from whence.runtime import set_threads
from whence.worlds.camera import look_rotation, make_camera
from whence.worlds.triangles import MeshScene, get_quality

SIDE_M, BLOCK_M, STREET_M, HEIGHT_M = 600.0, 60.0, 16.0, 18.0


def blocks_of(num_triangles: int) -> TexturedMesh:
    """Blocks of houses with streets between them, of as many small triangles as asked, as
    photogrammetric meshes are."""
    starts = np.arange(0, SIDE_M, BLOCK_M + STREET_M) + STREET_M
    area = SIDE_M**2 + len(starts) ** 2 * 4 * BLOCK_M * HEIGHT_M
    step = (2 * area / num_triangles) ** 0.5
    parts = [_sheet(np.zeros(3), np.array([SIDE_M, 0, 0]), np.array([0, SIDE_M, 0]), step)]
    for x in starts:
        for y in starts:
            ring = np.array(
                [[x, y, 0], [x + BLOCK_M, y, 0], [x + BLOCK_M, y + BLOCK_M, 0], [x, y + BLOCK_M, 0]]
            )
            up = np.array([0, 0, HEIGHT_M])
            parts += [_sheet(ring[k], ring[(k + 1) % 4] - ring[k], up, step) for k in range(4)]
    first = np.cumsum([0, *(len(points) for points, _, _ in parts)])
    texture = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3)).astype(np.uint8)
    triangles = np.concatenate(
        [rows + start for (_, _, rows), start in zip(parts, first, strict=False)]
    )
    points, uv = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return TexturedMesh(points, uv, triangles, np.zeros(len(triangles), np.int64), (texture,))


def _sheet(
    start: np.ndarray, across: np.ndarray, along: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, texture points and triangles of a parallelogram in squares, a little uneven."""
    counts = [max(1, round(float(np.linalg.norm(edge)) / step)) for edge in (across, along)]
    u, v = np.meshgrid(*(np.linspace(0, 1, count + 1) for count in counts))
    points = start + u[..., None] * across + v[..., None] * along
    points = points + np.random.default_rng(1).normal(0, 0.03 * step, points.shape)
    uv = np.stack([u * np.linalg.norm(across), v * np.linalg.norm(along)], axis=-1) / 40
    width = counts[0] + 1
    corner = (np.arange(counts[1])[:, None] * width + np.arange(counts[0])).ravel()
    lower, upper = (
        np.stack([corner, corner + 1, corner + width + 1], 1),
        np.stack([corner, corner + width + 1, corner + width], 1),
    )
    return points.reshape(-1, 3), uv.reshape(-1, 2), np.concatenate([lower, upper])


def measure(num_triangles: int, *, num_places: int) -> dict[str, float]:
    """Photos a CPU second, and megabytes."""
    start = time.process_time()
    scene = MeshScene(blocks_of(num_triangles))
    found: dict[str, float] = {
        "triangles": scene.num_triangles,
        "prepared_s": time.process_time() - start,
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random = np.random.default_rng(2)
    cameras = []
    for _ in range(num_places):
        line = STREET_M / 2 + (BLOCK_M + STREET_M) * random.integers(2, 6)
        place = np.array([line, random.uniform(150, 450), 2.5])
        for heading in range(0, 360, 60):
            rotation = look_rotation(grid_heading_deg=heading, pitch_deg=4.0)
            cameras.append(make_camera(place, rotation, size_px=(320, 240), field_of_view_deg=66.0))
    for name in ("low", "medium", "high"):
        scene.quality = get_quality(name)
        start = time.process_time()
        for camera in cameras:
            scene.render(camera)
        found[f"photos_per_core_second_{name}"] = len(cameras) / (time.process_time() - start)
    found["scene_mb"] = (scene.corners.nbytes + scene.uv.nbytes + scene.sheet.nbytes) / 1e6
    found["more_while_rendering_mb"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    ) / 1024
    return found


def main() -> None:
    """Print the table."""
    parser = benchmark_options(__doc__.split("\n")[0])
    parser.add_argument("--triangles", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--places", type=int, default=6)
    asked = parser.parse_args()
    set_threads(1)
    numbers = [10_000] if asked.quick else asked.triangles
    found = {
        str(number): measure(number, num_places=1 if asked.quick else asked.places)
        for number in numbers
    }
    for row in found.values():
        speeds = ", ".join(
            f"{row[f'photos_per_core_second_{name}']:.1f} {name}"
            for name in ("low", "medium", "high")
        )
        print(
            f"{row['triangles']:>9,.0f} triangles: photos of 320x240 a second and core {speeds}; "
            f"made ready in {row['prepared_s']:.1f} s; triangles {row['scene_mb']:.0f} MB, "
            f"at most {row['more_while_rendering_mb']:.0f} MB more while rendering"
        )
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
