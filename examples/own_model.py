"""A descriptor of one's own, beside those that come along: here the mean colours of a grid, without torch.

python examples/own_model.py photos/ where.jpg
"""

import sys
import tempfile
from collections.abc import Sequence

import numpy as np

import whence
from whence.cards import Preprocessing
from whence.parts import Descriptor


class MeanColours(Descriptor):
    """Mean colours of 4 x 4 cells."""

    dim = 48

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        cells = [[part for band in np.array_split(image, 4) for part in np.array_split(band, 4, axis=1)] for image in images]
        rows = np.array([[part.mean(axis=(0, 1)) for part in parts] for parts in cells], np.float32).reshape(-1, self.dim)
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


photos, query = sys.argv[1:]
card = whence.ModelCard("mean-colours", "mean colours of a grid", 48, Preprocessing(long_side_px=64), "MIT")
whence.register("model", "mean-colours", lambda: MeanColours(), card=card)
with tempfile.TemporaryDirectory() as folder:
    localizer = whence.Localizer.build(photos, path=f"{folder}/mine.whence", options=whence.BuildOptions(model="mean-colours"))
    answer = localizer.locate(query)
    print(f"{answer.status}: {answer.candidates[0].photo}, similarity {answer.candidates[0].similarity:.3f}")
    localizer.close()
