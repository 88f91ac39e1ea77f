"""Networks that pair points: LightGlue over any extractor, LoFTR (kornia) and Efficient LoFTR
(transformers) without keypoints.

Each is a `whence.parts.Matcher`: what can be done of one image alone is kept, candidates of one
size go through the network together. Points are pixels of the image that was prepared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption, MissingExtra
from whence.models.cards.local import LIGHTGLUE_OF
from whence.models.checkpoints.files import weights_digest
from whence.models.local.networks import MIN_SIDE_PX, as_pixels, fill_part, open_extractor
from whence.models.local.sift import LocalDescriptors, RootSift, to_grey
from whence.parts import Extractor
from whence.runtime import in_chunks
from whence.types import Arrays, PointPairs

T = TypeVar("T")
CHUNK = 4
"""Candidates taken together."""
_EXACT = {"depth_confidence": -1, "width_confidence": -1}
"""All layers, all points. The library's own settings look no further once the matches are sure, and
drop points without partner."""
_FEATURES = {"dedode": "dedodeb", "keynet": "keynet_affnet_hardnet"}
"""LightGlue's own names of extractors, where they are not ours."""
_DENSE_MULTIPLE = 32
"""Sides that networks without keypoints take: both photos of a batch are filled up to multiples of
it."""


class LightGluePairing:
    """Pairs the keypoints of an extractor by LightGlue (Lindenberger, Sarlin, Pollefeys, ICCV
    2023)."""

    def __init__(
        self, name: str, extractor: Extractor, network: nn.Module, *, is_adaptive: bool = False
    ) -> None:
        self.name, self.extractor, self.network, self.is_adaptive = (
            name,
            extractor,
            network.eval(),
            is_adaptive,
        )
        self._device = next(network.parameters()).device

    @cached_property
    def key(self) -> str:
        """The settings as text; before the slash what the kept arrays depend on."""
        return (
            f"{self.extractor.key}/lightglue-{'adaptive-' if self.is_adaptive else ''}"
            f"{weights_digest(self.network)}"
        )

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The local descriptors of a uint8 image (H, W, 3), as `LocalDescriptors.to_arrays` packs
        them."""
        return self.extractor.extract(image).to_arrays()

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, in order, some at a time."""
        asked = LocalDescriptors.from_arrays(query)
        # Where it stops is the pair's own: pairs that are looked at together would stop together.
        for chunk in in_chunks(candidates, 1 if self.is_adaptive else CHUNK):
            others = [
                None if arrays is None else LocalDescriptors.from_arrays(arrays) for arrays in chunk
            ]
            yield from _by_kind(
                others, lambda one: len(one.keypoints), lambda same: self._pair(asked, same)
            )

    @torch.inference_mode()
    def _pair(self, first: LocalDescriptors, others: list[LocalDescriptors]) -> list[PointPairs]:
        """Pairs of one image with others that have equally many keypoints."""
        counts = [(len(first.keypoints), len(other.keypoints)) for other in others]
        if min(counts[0]) < 2:
            return [
                _none(first.image_size_px, one.image_size_px, pair)
                for one, pair in zip(others, counts, strict=True)
            ]
        found = self.network(
            {"image0": self._batch([first] * len(others)), "image1": self._batch(others)}
        )
        result = []
        for other, matches, scores in zip(others, found["matches"], found["scores"], strict=True):
            rows = matches.cpu().numpy()
            points0, points1 = first.keypoints[rows[:, 0]], other.keypoints[rows[:, 1]]
            sizes = (first.image_size_px, other.image_size_px)
            result.append(
                PointPairs(points0, points1, *sizes, counts[0], scores.float().cpu().numpy())
            )
        return result

    def _batch(self, images: Sequence[LocalDescriptors]) -> dict[str, Tensor]:
        """What LightGlue takes of images with equally many keypoints."""

        def stacked(arrays: Iterable[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(list(arrays)).astype(np.float32)).to(self._device)

        batch = {
            "keypoints": stacked(one.keypoints for one in images),
            "descriptors": stacked(one.descriptors for one in images),
            "image_size": stacked(np.array(one.image_size_px) for one in images),
        }
        if self.name == "sift":
            # It was trained on standard deviations, half of OpenCV's diameters, and angles from -pi
            # to pi.
            batch["scales"] = stacked(one.sizes_px / 2 for one in images)
            batch["oris"] = stacked(
                (np.deg2rad(one.angles_deg) + np.pi) % (2 * np.pi) - np.pi for one in images
            )
        if images[0].frames is not None:
            batch["lafs"] = stacked(one.frames for one in images if one.frames is not None)
        return batch


class DensePairing:
    """Pairs points without keypoints: a network that takes both images at once."""

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name, self.network = name, network.eval()
        self._device = next(network.parameters()).device

    @cached_property
    def key(self) -> str:
        """The settings as text; before the slash what the kept arrays depend on."""
        return f"grey/{self.name}-{weights_digest(self.network)}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The grey image (H, W) uint8."""
        return {"grey": np.ascontiguousarray(to_grey(image))}

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, in order, some at a time."""
        for chunk in in_chunks(candidates, CHUNK):
            images = [None if arrays is None else arrays["grey"] for arrays in chunk]
            yield from _by_kind(
                images, lambda image: image.shape, lambda same: self._pair(query["grey"], same)
            )

    @torch.inference_mode()
    def _pair(self, first: np.ndarray, others: list[np.ndarray]) -> list[PointPairs]:
        """Pairs of one grey image with others of one size; matches in what was filled up are left
        out."""
        size0, size1 = ((image.shape[1], image.shape[0]) for image in (first, others[0]))
        if min(*size0, *size1) < MIN_SIDE_PX:
            return [_none(size0, size1, (0, 0)) for _ in others]
        height, width = (
            max(side0, side1) + -max(side0, side1) % _DENSE_MULTIPLE
            for side0, side1 in zip(first.shape, others[0].shape, strict=True)
        )
        batch0, batch1 = (
            nn.functional.pad(
                as_pixels(images, is_grey=True),
                (0, width - images[0].shape[1], 0, height - images[0].shape[0]),
            ).to(self._device)
            for images in ([first] * len(others), others)
        )
        result = []
        for points0, points1, scores in _DENSE[self.name](self.network, batch0, batch1):
            kept = _is_on(points0, size0) & _is_on(points1, size1)
            count = int(kept.sum())
            result.append(
                PointPairs(points0[kept], points1[kept], size0, size1, (count, count), scores[kept])
            )
        return result


def open_lightglue(
    extractor: str,
    *,
    max_keypoints: int = 2000,
    weights: str = "",
    device: str = "cpu",
    is_adaptive: bool = False,
) -> LightGluePairing:
    """LightGlue over an extractor, with the weights of both: from the cache, or from the folder
    `weights`.

    `is_adaptive`: it ends early on pairs that are plain to see, and on those that share nothing;
    else its output is exact. Raises `BadOption`, `MissingExtra`, and as
    `whence.models.checkpoints.origins.get_weights`.
    """
    found: Extractor = (
        RootSift(max_keypoints, is_upright=False)
        if extractor == "sift"
        else open_extractor(extractor, max_keypoints=max_keypoints, weights=weights, device=device)
    )
    network = make_lightglue(extractor, is_adaptive=is_adaptive)
    fill_part(
        network,
        f"lightglue-{LIGHTGLUE_OF.get(extractor, extractor)}",
        weights=weights,
        rename=_as_kornia_names,
    )
    return LightGluePairing(extractor, found, network.to(device), is_adaptive=is_adaptive)


def make_lightglue(extractor: str, *, is_adaptive: bool = False) -> nn.Module:
    """LightGlue for an extractor, its weights random; unless adaptive it never stops early and
    drops no points."""
    try:
        from kornia.feature import LightGlue
    except ImportError:
        raise MissingExtra(f"{extractor}-lightglue", "matchers") from None
    trained_with = LIGHTGLUE_OF.get(extractor, extractor)
    settings: dict[str, Any] = dict(LightGlue.features[_FEATURES.get(trained_with, trained_with)])
    settings |= {"weights": None, **({} if is_adaptive else _EXACT)}
    return LightGlue(features=None, **settings)  # type: ignore[arg-type]


def open_dense(name: str, *, weights: str = "", device: str = "cpu") -> DensePairing:
    """LoFTR or Efficient LoFTR with its weights. Raises `MissingExtra`, and as
    `whence.models.checkpoints.origins.get_weights`."""
    network = make_dense(name)
    fill_part(network, name, weights=weights, rename=lambda key: key.removeprefix("matcher."))
    return DensePairing(name, network.to(device))


def make_dense(name: str) -> nn.Module:
    """The network of a matcher without keypoints, its weights random. Raises `BadOption` for a name
    there is none of."""
    if name not in _DENSE:
        raise BadOption(f"matchers without keypoints are {', '.join(_DENSE)}; not {name!r}")
    try:
        if name == "loftr":
            from kornia.feature import LoFTR

            return LoFTR(pretrained=None)
        from transformers import EfficientLoFTRConfig, EfficientLoFTRForKeypointMatching

        return EfficientLoFTRForKeypointMatching(EfficientLoFTRConfig())
    except ImportError:
        raise MissingExtra(name, "matchers") from None


def _as_kornia_names(name: str) -> str | None:
    """kornia's name of a tensor of a released LightGlue; None for nine ones in DISK's file that no
    code reads."""
    name = name.removeprefix("matcher.")
    if re.fullmatch(r"log_assignment\.\d+\.r", name):
        return None
    for old in ("self_attn", "cross_attn"):
        if name.startswith(f"{old}."):
            _, layer, rest = name.split(".", 2)
            return f"transformers.{layer}.{old}.{rest}"
    return name


Dense = tuple[np.ndarray, np.ndarray, np.ndarray]


def _loftr(network: nn.Module, images0: Tensor, images1: Tensor) -> Iterator[Dense]:
    found = network({"image0": images0, "image1": images1})
    points0, points1, scores, owners = (
        found[name].cpu().numpy()
        for name in ("keypoints0", "keypoints1", "confidence", "batch_indexes")
    )
    for row in range(len(images0)):
        yield points0[owners == row], points1[owners == row], scores[owners == row]


def _eloftr(network: nn.Module, images0: Tensor, images1: Tensor) -> Iterator[Dense]:
    pairs = torch.stack([images0, images1], dim=1).expand(-1, -1, 3, -1, -1)
    found = network(pairs)
    size = torch.tensor([images0.shape[-1], images0.shape[-2]], device=images0.device)
    for points, matches, scores in zip(
        found.keypoints * size, found.matches, found.matching_scores, strict=True
    ):
        kept = (scores > 0) & (matches > -1)
        sides = (points[side][kept[side]].cpu().numpy() for side in (0, 1))
        yield *sides, scores[0][kept[0]].cpu().numpy()


_DENSE = {"loftr": _loftr, "eloftr": _eloftr}


def _is_on(points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    return np.asarray(((points >= -0.5) & (points < np.array(size_px) - 0.5)).all(axis=1))


def _none(
    size0_px: tuple[int, int], size1_px: tuple[int, int], counts: tuple[int, int]
) -> PointPairs:
    nothing = np.zeros((0, 2))
    return PointPairs(nothing, nothing, size0_px, size1_px, counts, np.zeros(0))


def _by_kind(
    items: Sequence[T | None],
    kind: Callable[[T], object],
    pair: Callable[[list[T]], list[PointPairs]],
) -> Iterator[PointPairs | None]:
    """What `pair` gives for the items of each kind, in the order of the items; None for None."""
    groups: dict[object, list[T]] = {}
    for item in items:
        if item is not None:
            groups.setdefault(kind(item), []).append(item)
    found = {of: iter(pair(group)) for of, group in groups.items()}
    return (None if item is None else next(found[kind(item)]) for item in items)
