"""A descriptor of one's own, here the mean colours of a grid, without torch.

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
    """Mean colours of a grid of 4 x 4 parts."""

    dim = 48

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        grids = [[np.array_split(band, 4, axis=1) for band in np.array_split(i, 4)] for i in images]
        means = [[part.mean(axis=(0, 1)) for band in grid for part in band] for grid in grids]
        rows = np.array(means, np.float32).reshape(-1, self.dim)
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


photos, query = sys.argv[1:]
size = Preprocessing(long_side_px=64)
card = whence.ModelCard("mean-colours", "mean colours of a grid", 48, size, "MIT")
whence.register("model", "mean-colours", lambda: MeanColours(), card=card)
with tempfile.TemporaryDirectory() as folder:
    options = whence.BuildOptions(model="mean-colours")
    localizer = whence.Localizer.build(photos, path=f"{folder}/mine.whence", options=options)
    answer = localizer.locate(query)
    best = answer.candidates[0]
    print(f"{answer.status}: {best.photo}, similarity {best.similarity:.3f}")
    localizer.close()
