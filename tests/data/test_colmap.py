"""Reconstructions: what is written is read, text and binary say the same, broken files are
named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from whence.data.colmap import ModelImage, as_quaternion, read_model, shared_shares, write_model
from whence.errors import UnreadableTable
from whence.worlds.camera import look_rotation


def sample() -> list[ModelImage]:
    random = np.random.default_rng(0)
    images = []
    for number in range(5):
        rotation = look_rotation(grid_heading_deg=71.0 * number, pitch_deg=9, roll_deg=-4)
        points = np.sort(random.choice(40, 12 + number, replace=False)).astype(np.int64)
        columns, rows = random.uniform(0, 60, (2, len(points)))
        images.append(
            ModelImage(
                f"a b/{number}.jpg",
                as_quaternion(rotation),
                random.normal(size=3),
                1,
                columns,
                rows,
                points,
            )
        )
    return images


def write(folder: Path) -> None:
    write_model(
        folder,
        sample(),
        cameras=[(64, 48, np.array([50.0, 50, 31.5, 23.5]))],
        points=np.zeros((40, 3)),
    )


def same(found: list[ModelImage]) -> bool:
    return len(found) == 5 and all(
        one.name == two.name
        and all(np.allclose(a, b) for a, b in zip(one[1:], two[1:], strict=True))
        for one, two in zip(found, sample(), strict=True)
    )


def test_binary_and_text_are_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "binary")
    assert same(read_model(tmp_path / "binary"))
    lines = ["# Image list with two lines of data per image:"]
    for number, image in enumerate(sample(), start=1):
        pose = " ".join(f"{value:.17g}" for value in (*image.rotation, *image.translation))
        lines.append(f"{number} {pose} {image.camera} {image.name}")
        seen = zip(image.columns + 0.5, image.rows + 0.5, image.points, strict=True)
        lines.append(" ".join(f"{x:.17g} {y:.17g} {p}" for x, y, p in seen) + " 3.0 4.0 -1")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "images.txt").write_text("\n".join(lines) + "\n")
    assert same(read_model(tmp_path / "text"))


@pytest.mark.parametrize("size", [0, 5, 30, 200, 600])
def test_a_file_that_ends_early_is_named(size: int, tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "images.bin"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UnreadableTable, match=r"images\.bin"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "text", ["1 2 3\n\n", "1 1 0 0 0 0 0 zero 1 a.jpg\n1 2 3\n", "1 1 0 0 0 0 0 0 1 a.jpg\n1 2\n"]
)
def test_a_broken_text_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text(text)
    with pytest.raises(UnreadableTable, match=r"images\.txt"):
        read_model(tmp_path)


def test_shares_of_points_are_those_of_sets() -> None:
    images = sample()
    found = shared_shares(images)
    for i, one in enumerate(images):
        for k, two in enumerate(images):
            a, b = set(one.points.tolist()), set(two.points.tolist())
            assert found[i, k] == pytest.approx(len(a & b) / max(len(a), len(b)))


def test_a_quaternion_turns_as_its_matrix() -> None:
    for heading, pitch, roll in ((0, 0, 0), (180, 0, 0), (90, 80, 170), (-90, -45, 181)):
        rotation = look_rotation(grid_heading_deg=heading, pitch_deg=pitch, roll_deg=roll)
        w, x, y, z = as_quaternion(rotation)
        matrix = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        assert np.allclose(matrix, rotation, atol=1e-9)
