"""Noise that depends on the seed and the place alone: any window of the plane, at any resolution,
shows the same ground."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MIXERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Window(NamedTuple):
    """A rectangle of the plane in kilometres, east and south from its origin, and its pixels."""

    left_km: float
    top_km: float
    km_per_px: float
    width: int
    height: int

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Kilometres east (W,) and south (H,) of the pixels' middles."""
        east = self.left_km + self.km_per_px * (np.arange(self.width) + 0.5)
        return east, self.top_km + self.km_per_px * (np.arange(self.height) + 0.5)


def hashed(seed: int, *keys: np.ndarray | int) -> np.ndarray:
    """Numbers from 0 to 1, float32, that follow from the seed and whole numbers alone; keys are
    broadcast."""
    with np.errstate(over="ignore"):
        state = np.uint64((seed * 0x9E3779B9 + 0x7F4A7C15) % 2**64)
        value: np.ndarray = np.asarray(state)
        for number, key in enumerate(keys):
            value = (
                value
                ^ np.asarray(key, np.int64).astype(np.uint64) * np.uint64(_MIXERS[0] + 2 * number)
            ) * np.uint64(_MIXERS[1])
            value = value ^ (value >> np.uint64(29))
        value = value * np.uint64(_MIXERS[2])
        value = value ^ (value >> np.uint64(32))
    return (value >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def smooth(window: Window, wavelength_km: float, *, seed: int, layer: int) -> np.ndarray:
    """(H, W) float32 noise from -1 to 1 of one wavelength, twice differentiable (cubic
    B-splines)."""
    (columns, across), (rows, down) = (_taps(axis / wavelength_km) for axis in window.axes())
    lattice = (
        2
        * hashed(
            seed,
            layer,
            np.arange(rows[0], rows[-1] + 4)[:, None],
            np.arange(columns[0], columns[-1] + 4)[None],
        )
        - 1
    )
    at_row, at_column = rows - rows[0], columns - columns[0]
    tall = np.zeros((window.height, lattice.shape[1]), np.float32)
    found = np.zeros((window.height, window.width), np.float32)
    for k in range(4):
        tall += down[k][:, None] * lattice[at_row + k]
    for k in range(4):
        # Splines pull values to the middle: scaled so that the noise fills its range.
        found += (np.float32(1.6) * across[k])[None] * np.take(tall, at_column + k, axis=1)
    return found


def fractal(
    window: Window,
    wavelength_km: float,
    octaves: int,
    *,
    seed: int,
    layer: int,
    gain: float = 0.5,
    is_ridged: bool = False,
) -> np.ndarray:
    """(H, W) float32 the sum of octaves, each with half the wavelength and `gain` times the height;
    too fine ones are left out.

    Ridged noise (Musgrave) has its sharp maxima where each octave is zero, and runs from 0 to 1.
    """
    found = np.zeros((window.height, window.width), np.float32)
    height, total = 1.0, 0.0
    for octave in range(octaves):
        length = wavelength_km / 2**octave
        total += height
        fade = float(np.clip(length / window.km_per_px / 2 - 1, 0, 1))
        if fade > 0:
            noise = smooth(window, length, seed=seed, layer=layer * 32 + octave)
            found += np.float32(height * fade) * ((1 - np.abs(noise)) ** 2 if is_ridged else noise)
        height *= gain
    return found / np.float32(total)


def warped(values: np.ndarray, east_px: np.ndarray, south_px: np.ndarray) -> np.ndarray:
    """(H, W) the values looked up at pixels moved by so many to the east and south, at edges the
    nearest."""
    import cv2

    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    found: np.ndarray = cv2.remap(
        values,
        columns + east_px,
        rows + south_px,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found


def _taps(places: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first of four lattice points beside each place, and their weights."""
    first = np.floor(places)
    t = (places - first).astype(np.float32)
    weights = [
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    ]
    return first.astype(np.int64) - 1, weights
