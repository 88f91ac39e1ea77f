"""Small descriptors of one's own, written as a user writes one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.cards import ModelCard, Preprocessing
from whence.parts import Descriptor

NAME = "mean-colours"
CARD = ModelCard(NAME, "mean colours of a grid", 48, Preprocessing(long_side_px=64), "MIT")


class MeanColours(Descriptor):
    """Mean colours of 4 x 4 cells."""

    dim = 48

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for image in images:
            cells = [
                part.mean(axis=(0, 1))
                for band in np.array_split(image, 4)
                for part in np.array_split(band, 4, axis=1)
            ]
            rows.append(np.concatenate(cells) - image.mean())
        found = np.array(rows, np.float32).reshape(-1, self.dim)
        return np.asarray(
            found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32
        )


class OfNegatives(MeanColours):
    """The same for photos that are negatives: a query model of its own for `MeanColours`."""

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return super().describe([255 - image for image in images])
