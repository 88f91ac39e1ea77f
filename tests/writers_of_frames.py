"""Small drives as photos in folders, in plane metres, for tests of sequences."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from whence.data.drives import SequenceSet
from whence.data.frame_folders import open_sequences

STEP_M = 5.0


def scenery(place: int, *, size: tuple[int, int], seed: int) -> np.ndarray:
    """What a place looks like: coarse colours of its own, and noise of the visit."""
    own = np.random.default_rng(place).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    image = cv2.resize(own, (size[1], size[0]), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noise = np.random.default_rng([seed, place]).integers(-20, 20, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_drive(
    folder: Path,
    places: list[int],
    *,
    frames: list[int],
    seed: int,
    aside_m: float,
    size: tuple[int, int],
) -> None:
    folder.mkdir(parents=True)
    for place, frame in zip(places, frames, strict=True):
        name = (
            f"@{place * STEP_M:010.2f}@{aside_m:010.2f}@{folder.name}@{frame}@{folder.name}"
            f"{frame}@city@20200101@.jpg"
        )
        encoded = cv2.imencode(".jpg", scenery(place, size=size, seed=seed))[1]
        (folder / name).write_bytes(encoded.tobytes())


def write_drives(root: Path, *, num: int = 8, size: tuple[int, int] = (24, 32)) -> SequenceSet:
    """Two drives of a database, the second with a hole, and one of queries along the first, 2 m
    aside."""
    write_drive(
        root / "database" / "a",
        list(range(num)),
        frames=list(range(num)),
        seed=0,
        aside_m=0,
        size=size,
    )
    later = list(range(100, 100 + num - 1))
    write_drive(
        root / "database" / "b",
        later,
        frames=[n + (n > 102) for n in later],
        seed=0,
        aside_m=0,
        size=size,
    )
    write_drive(
        root / "queries" / "c",
        list(range(num)),
        frames=list(range(num)),
        seed=1,
        aside_m=2,
        size=size,
    )
    return open_sequences(root)
