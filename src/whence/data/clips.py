"""Short clips of frames with their times, and, where they were rendered, what every pixel shows."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.errors import NoPhotos, UnreadableTable

RECORD = "world.json"
"""The file of a folder of rendered clips that says what they follow from."""
_ARRAYS = {"frames": 5, "times_s": 2, "labels": 4, "depth_m": 4, "places": 1, "is_ambiguous": 1}
"""What a file of clips holds, and the number of axes of each."""


@dataclass(frozen=True)
class Clips:
    """N clips of T frames each."""

    pixels: np.ndarray
    """(M, H, W, 3) uint8 frames."""
    rows: np.ndarray
    """(N, T) which frames a clip has; overlapping clips share them."""
    times_s: np.ndarray
    """(N, T) float64 seconds."""
    labels: np.ndarray | None = None
    """(M, H, W) uint8 what a pixel shows, 0 for the ground; None where nobody says."""
    depth_m: np.ndarray | None = None
    """(M, H, W) float16."""
    places: np.ndarray | None = None
    """(N,) int64 which ground the clip shows."""
    is_ambiguous: np.ndarray | None = None
    """(N,) bool whether something in it turns to one of two sides by chance."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def length(self) -> int:
        """T."""
        return int(self.rows.shape[1])

    def frames(self, clips: np.ndarray) -> np.ndarray:
        """(n, T, H, W, 3) uint8 frames of clips (n,)."""
        return np.asarray(self.pixels[self.rows[clips].ravel()]).reshape(
            len(clips), self.length, *self.pixels.shape[1:]
        )


def are_clips(folder: Path) -> bool:
    """Whether a folder holds rendered clips."""
    return (folder / RECORD).is_file() and any(
        (folder / f"{split}.npz").is_file() for split in ("train", "val", "test")
    )


def read_clips(folder: str | Path, *, split: str = "train") -> Clips:
    """The clips that `whence world clips` rendered. Raises `NoPhotos` for a split that is not
    there, and `UnreadableTable`."""
    file = Path(folder) / f"{split}.npz"
    if not file.is_file():
        raise NoPhotos(
            f"no clips {file.name} in {str(folder)!r}: whence world clips FOLDER renders train, "
            "val and test"
        )
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableTable(file, f"no clips, or broken ones ({error})") from None
    if (
        any(arrays[name].ndim != axes for name, axes in _ARRAYS.items())
        or arrays["frames"].dtype != np.uint8
    ):
        raise UnreadableTable(file, "its arrays are none of clips")
    num, length = arrays["frames"].shape[:2]
    if arrays["times_s"].shape != (num, length) or any(
        len(array) != num for array in arrays.values()
    ):
        raise UnreadableTable(file, "its arrays are of different numbers of clips")
    rows = np.arange(num * length).reshape(num, length)
    flat = {
        name: arrays[name].reshape(num * length, *arrays[name].shape[2:])
        for name in ("frames", "labels", "depth_m")
    }
    return Clips(
        flat["frames"],
        rows,
        arrays["times_s"],
        flat["labels"],
        flat["depth_m"],
        arrays["places"],
        arrays["is_ambiguous"].astype(bool),
    )


def cut_clips(pixels: np.ndarray, drives: np.ndarray, times_s: np.ndarray, *, length: int) -> Clips:
    """Every window of so many frames (M, H, W, 3) of one drive, in their order; `drives` (M,) says
    whose a frame is.

    Windows in which time (M,) does not go on from frame to frame are left out. Raises `NoPhotos`
    where none is left.
    """
    starts = np.arange(max(0, len(drives) - length + 1))
    rows = starts[:, None] + np.arange(length)
    times = times_s[rows] if len(rows) else np.empty((0, length))
    keep = np.zeros(0, bool)
    if len(rows):
        keep = (drives[rows[:, 0]] == drives[rows[:, -1]]) & (np.diff(times, axis=1) > 0).all(
            axis=1
        )
    if not keep.any():
        raise NoPhotos(f"no drive has {length} frames one after the other")
    return Clips(pixels, rows[keep], times[keep])
