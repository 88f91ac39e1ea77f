"""Keypoints and descriptors out of a small network that comes with Whence, or of one like it out of
a file. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from whence.cards import ModelCard
from whence.errors import BadOption, UnreadableWeights
from whence.models.cards.local import PARTS
from whence.models.cards.text import read_card
from whence.models.checkpoints.origins import get_weights
from whence.models.checkpoints.plain import read_safetensors
from whence.models.engines.local_graph import DESCRIPTORS, LOGITS, dense_graph
from whence.models.engines.onnx_graph import Run, open_graph
from whence.models.local.peaks import Peaks, find_peaks
from whence.models.local.sift import LocalDescriptors, no_keypoints, to_grey

OWN = "whence-local"
MULTIPLE_PX = 16
MIN_SIDE_PX = 16


@dataclass(frozen=True)
class DenseExtractor:
    """The highest peaks of a network's map, and its descriptors there. An `Extractor`."""

    run: Run
    """From grey images (B, 1, H, W) in [0, 1] to logits (B, 1, H, W) and descriptors (B, D, h,
    w)."""
    card: ModelCard
    digest: str
    """Of the network's weights."""
    max_keypoints: int = 2000
    radius_px: int = 2

    @property
    def key(self) -> str:
        """The settings as text, the weights' digest among them."""
        return f"{self.card.name}-{self.max_keypoints}-{self.digest}"

    @property
    def taught_by(self) -> tuple[str, str]:
        """The extractor whose descriptors the network learned, and the digest of its weights; both
        empty for one of its own."""
        options = self.card.backbone_options
        return str(options.get("teacher", "")), str(options.get("teacher_weights", ""))

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        """Keypoints and descriptors of a uint8 image (H, W, 3) or (H, W)."""
        grey = to_grey(image)
        size = (grey.shape[1], grey.shape[0])
        if min(grey.shape) < MIN_SIDE_PX:
            return no_keypoints(size, dim=self.card.dim, packing="float16")
        heights, maps = self.maps(grey)
        peaks = find_peaks(heights, max_points=self.max_keypoints, radius_px=self.radius_px)
        return self.describe(maps, peaks, size)

    def maps(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (H, W) and descriptors (D, h, w) of a grey image (H, W) uint8; h and w may reach
        beyond it."""
        height, width = grey.shape
        padded = cv2.copyMakeBorder(
            grey, 0, -height % MULTIPLE_PX, 0, -width % MULTIPLE_PX, cv2.BORDER_REPLICATE
        )
        logits, descriptors = self.run(padded[None, None].astype(np.float32) / 255)
        return np.ascontiguousarray(logits[0, 0, :height, :width]), descriptors[0]

    def describe(
        self, maps: np.ndarray, peaks: Peaks, size_px: tuple[int, int]
    ) -> LocalDescriptors:
        """Peaks with the descriptors that maps (D, h, w) have there, in an image of this width and
        height."""
        stride = max(1, round(-(-size_px[0] // MULTIPLE_PX) * MULTIPLE_PX / maps.shape[2]))
        found = read_between(maps, (peaks.points + 0.5) / stride - 0.5)
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
        none = np.zeros(len(found), np.float32)
        return LocalDescriptors(peaks.points, found, none, none, size_px, "float16")


def read_between(maps: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(M, D) float32 what maps (D, h, w) have at places (M, 2), between neighbours bilinearly;
    beyond the rim the last one's."""
    height, width = maps.shape[1:]
    x, y = cells[:, 0].clip(0, width - 1), cells[:, 1].clip(0, height - 1)
    left, top = (
        np.minimum(x.astype(np.int64), max(width - 2, 0)),
        np.minimum(y.astype(np.int64), max(height - 2, 0)),
    )
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    upper = maps[:, top, left] * (1 - across) + maps[:, top, right] * across
    lower = maps[:, bottom, left] * (1 - across) + maps[:, bottom, right] * across
    return np.ascontiguousarray((upper * (1 - down) + lower * down).T)


def open_own_features(*, max_keypoints: int = 2000, weights: str = "") -> DenseExtractor:
    """The network that comes with Whence, or the one in a file that a training of local features
    wrote.

    Raises `BadOption`, `MissingWeights`, and `UnreadableWeights` for a file that is none.
    """
    if max_keypoints < 1:
        raise BadOption(f"at least one keypoint is needed, not {max_keypoints}")
    part = PARTS[OWN]
    given = Path(weights) if weights else None
    if given is not None and given.is_dir():
        given = given / part.origins[0].file
    file = get_weights(part, weights=given)[0]
    arrays = {name: values.astype(np.float32) for name, values in read_safetensors(file).items()}
    return DenseExtractor(run_of(arrays, file), read_card(file), digest_of(arrays), max_keypoints)


def run_of(arrays: Mapping[str, np.ndarray], file: str | Path) -> Run:
    """A function that computes a network of these arrays, which `file` holds. Raises
    `UnreadableWeights` for another network's."""
    try:
        return open_graph(dense_graph(arrays), (LOGITS, DESCRIPTORS))
    except KeyError as error:
        raise UnreadableWeights(
            file, f"no network of local features that describes points: {error} is missing"
        ) from None
    except Exception as error:  # Both engines have errors of their own.
        raise UnreadableWeights(file, f"no network of this kind: {str(error)[:200]}") from None


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """12 hexadecimal digits that stand for a network's weights."""
    hashed = hashlib.blake2b(digest_size=6)
    for name in sorted(arrays):
        hashed.update(name.encode())
        hashed.update(np.ascontiguousarray(arrays[name], np.float32).tobytes())
    return hashed.hexdigest()
