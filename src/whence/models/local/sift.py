"""Local descriptors: RootSIFT at detected keypoints and on a dense grid, and ORB. Learned ones are
`whence.models.local.networks`.

RootSIFT is the square root of the L1-normalised SIFT histogram (Arandjelovic and Zisserman, CVPR
2012); SIFT and ORB are OpenCV's. Coordinates follow OpenCV: the centre of the first pixel is (0,
0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

SIFT_DIM = 128
ORB_BITS = 256

Packing = Literal["uint8", "float16", "bits"]
"""How descriptors are kept: histograms as bytes, others as half floats, binary ones as bits."""


@dataclass(frozen=True, slots=True)
class LocalDescriptors:
    """Keypoints of one image and their descriptors."""

    keypoints: np.ndarray
    """(M, 2) float32: x, y in pixels of the image given."""
    descriptors: np.ndarray
    """(M, D) float32, unit length."""
    sizes_px: np.ndarray
    """(M,) float32: diameter of the patch described."""
    angles_deg: np.ndarray
    """(M,) float32: orientation of the patch, 0 where upright descriptors are used."""
    image_size_px: tuple[int, int]
    """Width and height of the image given."""
    packing: Packing = "uint8"
    frames: np.ndarray | None = None
    """(M, 2, 3) float32 local affine frames, where the detector estimates them."""
    histograms: np.ndarray | None = None
    """(M, 128) uint8 SIFT, where the descriptors are RootSIFT of them: a quarter of the bytes to
    remember a photo by."""

    def without_descriptors(self) -> LocalDescriptors:
        """The same with histograms alone, which `with_descriptors` makes it of again."""
        return replace(self, descriptors=np.zeros((0, SIFT_DIM), np.float32))

    def with_descriptors(self) -> LocalDescriptors:
        """The same with the descriptors that its histograms give."""
        assert self.histograms is not None, "remembered of SIFT alone"
        return replace(self, descriptors=root_sift(self.histograms))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Compact arrays for keeping: descriptors as uint8 (values times 255, an error of 1/510 at
        most), float16 or bits.

        The rest stays as it is.
        """
        if self.packing == "bits":
            packed = {"bits": np.packbits(self.descriptors > 0, axis=1)}
        elif self.packing == "float16":
            packed = {"descriptors": self.descriptors.astype(np.float16)}
        else:
            packed = {"descriptors": np.rint(self.descriptors * 255).astype(np.uint8)}
        return {
            "keypoints": self.keypoints,
            **packed,
            "sizes_px": self.sizes_px.astype(np.float16),
            "angles_deg": self.angles_deg.astype(np.float16),
            "image_size_px": np.array(self.image_size_px, np.int32),
            **({} if self.frames is None else {"frames": self.frames.astype(np.float32)}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> LocalDescriptors:
        """The record that `to_arrays` was made of, descriptors brought back to unit length."""
        packing: Packing = "bits"
        if "bits" in arrays:
            descriptors = np.unpackbits(arrays["bits"], axis=1).astype(np.float32) * 2 - 1
        else:
            packing = "uint8" if arrays["descriptors"].dtype == np.uint8 else "float16"
            descriptors = arrays["descriptors"].astype(np.float32)
        descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
        width, height = (int(side) for side in arrays["image_size_px"])
        sizes, angles = (
            arrays["sizes_px"].astype(np.float32),
            arrays["angles_deg"].astype(np.float32),
        )
        return cls(
            arrays["keypoints"],
            descriptors,
            sizes,
            angles,
            (width, height),
            packing,
            arrays.get("frames"),
        )


def to_grey(image: np.ndarray) -> np.ndarray:
    """A uint8 (H, W) image of a uint8 (H, W, 3) or (H, W) one."""
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] != 3)
        or 0 in image.shape
    ):
        raise ValueError(
            f"an image is uint8 (H, W, 3) or (H, W) and not empty; this one is {image.dtype} "
            f"{image.shape}"
        )
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def root_sift(sift: np.ndarray) -> np.ndarray:
    """RootSIFT (M, 128) float32 of SIFT histograms (M, 128): unit length, all zero where the
    histogram was."""
    sums = sift.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.sqrt(sift.astype(np.float32) / np.maximum(sums, 1e-9))


@dataclass(frozen=True, slots=True)
class RootSift:
    """RootSIFT at the strongest difference-of-Gaussians keypoints."""

    max_keypoints: int = 4000
    is_upright: bool = True
    """Describe every keypoint with orientation 0: street photos are held upright, and one patch
    then has one descriptor."""
    contrast_threshold: float = 0.02
    """Half of OpenCV's default: weak keypoints too, for photos in shade or at dusk."""

    @property
    def key(self) -> str:
        """The settings as text, for what was kept or calibrated with them."""
        return (
            f"rootsift-{self.max_keypoints}-{self.contrast_threshold:g}-"
            f"{'upright' if self.is_upright else 'rotated'}"
        )

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        """Keypoints and descriptors of a uint8 image (H, W, 3) or (H, W); none on a flat image."""
        grey = to_grey(image)
        sift = cv2.SIFT.create(
            nfeatures=self.max_keypoints, contrastThreshold=self.contrast_threshold
        )
        if min(grey.shape) < 8:
            return _as_record([], None, grey)
        if not self.is_upright:
            keypoints, descriptors = sift.detectAndCompute(grey, None)
            return _as_record(keypoints, descriptors, grey)
        keypoints = _upright(sift.detect(grey, None))
        keypoints, descriptors = sift.compute(grey, keypoints)
        return _as_record(keypoints, descriptors, grey)


def _upright(keypoints: Sequence[cv2.KeyPoint]) -> list[cv2.KeyPoint]:
    """The keypoints with orientation 0, each place and scale once: SIFT repeats a keypoint for
    every strong orientation."""
    kept: dict[tuple[float, float, int], cv2.KeyPoint] = {}
    for keypoint in keypoints:
        keypoint.angle = 0.0
        kept.setdefault((keypoint.pt[0], keypoint.pt[1], keypoint.octave), keypoint)
    return list(kept.values())


@dataclass(frozen=True, slots=True)
class Orb:
    """ORB (Rublee, Rabaud, Konolige, Bradski: ORB, an efficient alternative to SIFT or SURF, ICCV
    2011): oriented, binary.

    A descriptor's 256 bits are plus and minus 1/16, so that the squared distance of two is the
    Hamming distance over 64.
    """

    max_keypoints: int = 4000

    @property
    def key(self) -> str:
        """The settings as text."""
        return f"orb-{self.max_keypoints}"

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        """Keypoints and descriptors of a uint8 image (H, W, 3) or (H, W); none on a flat image."""
        grey = to_grey(image)
        found = (
            cv2.ORB.create(nfeatures=self.max_keypoints).detectAndCompute(grey, None)
            if min(grey.shape) >= 64
            else ([], None)
        )
        keypoints, bits = found
        if bits is None:
            return no_keypoints(grey.shape[1::-1], dim=ORB_BITS, packing="bits")
        return LocalDescriptors(
            keypoints=np.array([keypoint.pt for keypoint in keypoints], np.float32),
            descriptors=(
                np.unpackbits(np.asarray(bits, np.uint8), axis=1).astype(np.float32) * 2 - 1
            )
            / np.sqrt(np.float32(ORB_BITS)),
            sizes_px=np.array([keypoint.size for keypoint in keypoints], np.float32),
            angles_deg=np.array([keypoint.angle for keypoint in keypoints], np.float32),
            image_size_px=(grey.shape[1], grey.shape[0]),
            packing="bits",
        )


def no_keypoints(size_px: tuple[int, int], *, dim: int, packing: Packing) -> LocalDescriptors:
    """The record of an image of this width and height on which there is nothing to describe."""
    empty, histograms = np.zeros(0, np.float32), np.zeros((0, SIFT_DIM), np.uint8)
    descriptors = np.zeros((0, dim), np.float32)
    return LocalDescriptors(
        np.zeros((0, 2), np.float32),
        descriptors,
        empty,
        empty,
        size_px,
        packing,
        histograms=histograms,
    )


@dataclass(frozen=True, slots=True)
class DenseRootSift:
    """Upright RootSIFT of square patches on a regular grid, at several patch sizes.

    SIFT describes a patch six times as wide as the keypoint's size: sizes of 16 to 48 cover 96 to
    288 pixels.
    """

    step_px: int = 8
    sizes_px: tuple[int, ...] = (16, 24, 32, 48)

    @property
    def key(self) -> str:
        """The settings as text."""
        return f"dense-rootsift-{self.step_px}-{'-'.join(map(str, self.sizes_px))}"

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        """Descriptors at every grid point whose keypoint lies inside the uint8 image (H, W, 3) or
        (H, W)."""
        grey = to_grey(image)
        height, width = grey.shape
        keypoints = [
            cv2.KeyPoint(float(x), float(y), float(size), 0.0, 0.0, _octave(size))
            for size in self.sizes_px
            for y in range(size // 2, height - size // 2, self.step_px)
            for x in range(size // 2, width - size // 2, self.step_px)
        ]
        if not keypoints:
            return _as_record([], None, grey)
        described, descriptors = cv2.SIFT.create().compute(grey, keypoints)
        return _as_record(described, descriptors, grey)


def _octave(size_px: int) -> int:
    """The octave in which a keypoint is 8 to 16 pixels large: big patches are described where they
    are smaller, at bounded cost."""
    return max(0, int(np.log2(size_px / 8)))


def _as_record(
    keypoints: Sequence[cv2.KeyPoint], descriptors: np.ndarray | None, grey: np.ndarray
) -> LocalDescriptors:
    size = (grey.shape[1], grey.shape[0])
    if descriptors is None or not len(keypoints):
        return no_keypoints(size, dim=SIFT_DIM, packing="uint8")
    return LocalDescriptors(
        keypoints=np.array([keypoint.pt for keypoint in keypoints], np.float32),
        descriptors=root_sift(descriptors),
        histograms=descriptors.astype(np.uint8),
        sizes_px=np.array([keypoint.size for keypoint in keypoints], np.float32),
        angles_deg=np.array([keypoint.angle for keypoint in keypoints], np.float32),
        image_size_px=size,
    )
