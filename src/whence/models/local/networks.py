"""Learned local descriptors: DISK, ALIKED, XFeat, DeDoDe and Key.Net with HardNet from kornia,
SuperPoint from transformers.

Networks are built without weights and filled from files; nothing is fetched here but through
`whence.models.checkpoints`. Points are pixels of the image given; pixel centres are whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption, MissingExtra, MissingWeights
from whence.models.cards.local import PARTS, PARTS_OF
from whence.models.checkpoints.files import fill_module, weights_digest
from whence.models.checkpoints.origins import get_weights
from whence.models.local.sift import LocalDescriptors, no_keypoints, to_grey

BATCH = 4
"""Images described together where they are of one size; on a CPU larger batches leave its cache."""
MIN_SIDE_PX = 32


class Found(NamedTuple):
    """Keypoints (M, 2), descriptors (M, D) and, from some detectors, local affine frames (M, 2, 3)
    of one image."""

    points: Tensor
    descriptors: Tensor
    frames: Tensor | None = None


class LearnedExtractor:
    """A network that finds keypoints and describes them."""

    def __init__(self, name: str, networks: nn.ModuleDict, *, max_keypoints: int = 2000) -> None:
        if max_keypoints < 1:
            raise BadOption(f"at least one keypoint is needed, not {max_keypoints}")
        self.name, self.networks, self.max_keypoints = name, networks.eval(), max_keypoints
        self._device = next(networks.parameters()).device

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits that stand for the weights."""
        return weights_digest(self.networks)

    @property
    def key(self) -> str:
        """The settings as text, the weights' digest among them."""
        return f"{self.name}-{self.max_keypoints}-{self.digest}"

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        """Keypoints and descriptors of a uint8 image (H, W, 3) or (H, W)."""
        return next(self.extract_each([image]))

    def extract_each(self, images: Sequence[np.ndarray]) -> Iterator[LocalDescriptors]:
        """Keypoints and descriptors of images, in order; neighbours of one size go through the
        network together."""
        for shape, same in groupby(images, key=lambda image: image.shape):
            group = list(same)
            if min(shape[:2]) < MIN_SIDE_PX:
                yield from (
                    no_keypoints((shape[1], shape[0]), dim=_DIMS[self.name], packing="float16")
                    for _ in group
                )
                continue
            for start in range(0, len(group), BATCH):
                yield from self._extract_batch(group[start : start + BATCH])

    @torch.inference_mode()
    def _extract_batch(self, images: list[np.ndarray]) -> list[LocalDescriptors]:
        pixels = as_pixels(images, is_grey=self.name in _GREY).to(self._device)
        size = (images[0].shape[1], images[0].shape[0])
        return [
            _as_record(found, size)
            for found in _DESCRIBE[self.name](self.networks, pixels, self.max_keypoints)
        ]


def as_pixels(images: Sequence[np.ndarray], *, is_grey: bool) -> Tensor:
    """uint8 images of one size as floats (B, 3, H, W) in [0, 1], or (B, 1, H, W)."""
    if is_grey:
        return (
            torch.from_numpy(np.stack([to_grey(image) for image in images])[:, None]).float() / 255
        )
    colour = [
        image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images
    ]
    return torch.from_numpy(np.stack(colour)).permute(0, 3, 1, 2).float() / 255


def open_extractor(
    name: str, *, max_keypoints: int = 2000, weights: str = "", device: str = "cpu"
) -> LearnedExtractor:
    """The extractor of this name with its weights, from the cache or from `weights`: a file, or a
    folder with all its files.

    Raises `BadOption`, `MissingExtra`, and as `whence.models.checkpoints.origins.get_weights`.
    """
    networks = make_networks(name)
    for part in PARTS_OF[name]:
        fill_part(networks[part], part, weights=weights)
    return LearnedExtractor(name, networks.to(device), max_keypoints=max_keypoints)


def make_networks(name: str) -> nn.ModuleDict:
    """The networks of an extractor by part, their weights random. Raises `BadOption` for a name
    there is none of."""
    if name not in PARTS_OF:
        raise BadOption(f"learned local descriptors are {', '.join(PARTS_OF)}; not {name!r}")
    try:
        parts = _MAKE[name]()
    except ImportError as error:
        if error.name not in ("kornia", "transformers", "kornia.feature"):
            raise
        raise MissingExtra(name, "matchers") from None
    return nn.ModuleDict(parts)


def fill_part(
    module: nn.Module, part: str, *, weights: str = "", rename: Callable[[str], str | None] = str
) -> None:
    """Fill a network from the file of a part: `weights` itself, the file of that name in the folder
    `weights`, or the cache's."""
    card = PARTS[part]
    given: Path | None = Path(weights) if weights else None
    if given is not None and given.is_dir():
        named = [given / origin.file for origin in card.origins]
        given = next((file for file in named if file.is_file()), None)
        if given is None:
            raise MissingWeights(
                f"the folder {weights!r} has no file {card.origins[0].file!r} with the weights of "
                f"{part}"
            )
    file = get_weights(card, weights=given)[0]
    made_here = tuple(
        name
        for name, _ in module.named_buffers()
        if not name.endswith(("running_mean", "running_var"))
    )
    fill_module(module, file, what=part, rename=rename, made_here=made_here)


def _as_record(features: Found, size_px: tuple[int, int]) -> LocalDescriptors:
    points = features.points.cpu().numpy().astype(np.float32)
    empty = np.zeros(len(points), np.float32)
    frames = None if features.frames is None else features.frames.cpu().numpy().astype(np.float32)
    descriptors = nn.functional.normalize(features.descriptors.float(), dim=1).cpu().numpy()
    return LocalDescriptors(points, descriptors, empty, empty, size_px, "float16", frames)


def _disk() -> dict[str, nn.Module]:
    from kornia.feature import DISK

    return {"disk": DISK()}


def _describe_disk(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    for one in networks["disk"](pixels, n=num, pad_if_not_divisible=True):
        yield Found(one.keypoints, one.descriptors)


def _aliked(name: str, kind: str) -> dict[str, nn.Module]:
    from kornia.feature import ALIKED

    return {name: ALIKED(kind)}


def _describe_aliked(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    (network,) = networks.values()
    # The detector is asked for the strongest points, however weak: photos at dusk have no others.
    detector: Any = network.dkd
    detector.scores_th, detector.top_k, detector.n_limit = 0.0, num, num
    for one in network(pixels):
        yield Found(one.keypoints, one.descriptors)


def _xfeat() -> dict[str, nn.Module]:
    from kornia.feature import XFeat

    return {"xfeat": XFeat().net}


def _describe_xfeat(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    from kornia.feature import XFeat

    whole = XFeat(top_k=num)
    whole.net = networks["xfeat"]
    height, width = pixels.shape[-2:]
    # The network sees the image shrunk to multiples of 32; its points are scaled back, but for the
    # half of a pixel.
    ratio = torch.tensor([side / max(32, side // 32 * 32) for side in (width, height)])
    for one in whole.eval().detectAndCompute(pixels):
        yield Found(one["keypoints"] + (ratio.to(pixels.device) - 1) / 2, one["descriptors"])


def _dedode() -> dict[str, nn.Module]:
    from kornia.feature import DeDoDe

    whole = DeDoDe(detector_model="L", descriptor_model="B", amp_dtype=torch.float32)
    return {"dedode-detector": whole.detector, "dedode-descriptor": whole.descriptor}


def _describe_dedode(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    from kornia.feature import DeDoDe

    # The class is only the flow between the two networks.
    flow = DeDoDe.__new__(DeDoDe)
    nn.Module.__init__(flow)
    flow.detector, flow.descriptor = networks["dedode-detector"], networks["dedode-descriptor"]
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    points, _, descriptors = flow((pixels - mean) / std, n=num, apply_imagenet_normalization=False)
    yield from (
        Found(own - 0.5, described) for own, described in zip(points, descriptors, strict=True)
    )


def _keynet() -> dict[str, nn.Module]:
    from kornia.feature import HardNet, KeyNet, LAFAffNetShapeEstimator, OriNet

    affine = LAFAffNetShapeEstimator(False, preserve_orientation=False)
    return {
        "keynet": KeyNet(False),
        "affnet": affine,
        "orinet": OriNet(False),
        "hardnet": HardNet(False),
    }


def _describe_keynet(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    from kornia.feature import (
        KeyNetDetector,
        LAFDescriptor,
        LAFOrienter,
        LocalFeature,
        get_laf_center,
        laf_is_filled,
    )

    orienter = LAFOrienter(angle_detector=networks["orinet"])
    detector = KeyNetDetector(
        False, num_features=num, ori_module=orienter, aff_module=networks["affnet"]
    )
    detector.model = networks["keynet"]
    describer = LAFDescriptor(networks["hardnet"], patch_size=32, grayscale_descriptor=True)
    whole = LocalFeature(detector, describer).eval()
    for image in pixels:
        frames, _, descriptors = whole(image[None])
        kept = laf_is_filled(frames)[0]
        yield Found(get_laf_center(frames)[0][kept], descriptors[0][kept], frames[0][kept])


def _superpoint() -> dict[str, nn.Module]:
    from transformers import SuperPointConfig, SuperPointForKeypointDetection

    return {"superpoint": SuperPointForKeypointDetection(SuperPointConfig())}


def _describe_superpoint(networks: nn.ModuleDict, pixels: Tensor, num: int) -> Iterator[Found]:
    network: Any = networks["superpoint"]
    network.keypoint_decoder.max_keypoints = num
    height, width = pixels.shape[-2:]
    # The coarse cells are 8 pixels wide: what the image lacks to whole cells is repeated from its
    # rim.
    padded = nn.functional.pad(pixels, (0, -width % 8, 0, -height % 8), mode="replicate")
    found = network(padded)
    size = torch.tensor([padded.shape[-1], padded.shape[-2]], device=pixels.device)
    for points, descriptors, mask in zip(
        found.keypoints, found.descriptors, found.mask, strict=True
    ):
        own = points * size
        kept = mask.bool() & (own[:, 0] <= width - 1) & (own[:, 1] <= height - 1)
        yield Found(own[kept], descriptors[kept])


_ALIKED_KINDS = {
    "aliked": "aliked-n16",
    **{name: name for name in ("aliked-n16rot", "aliked-n32", "aliked-t16")},
}
"""kornia's own names of the sizes of ALIKED."""
_GREY = {"keynet", "superpoint"}
_DIMS = {
    "disk": 128,
    **dict.fromkeys(_ALIKED_KINDS, 128),
    "aliked-t16": 64,
    "xfeat": 64,
    "dedode": 256,
    "keynet": 128,
    "superpoint": 256,
}
_MAKE: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "disk": _disk,
    **{name: partial(_aliked, name, kind) for name, kind in _ALIKED_KINDS.items()},
    "xfeat": _xfeat,
    "dedode": _dedode,
    "keynet": _keynet,
    "superpoint": _superpoint,
}
_DESCRIBE: dict[str, Callable[[Any, Tensor, int], Iterator[Found]]] = {
    "disk": _describe_disk,
    **dict.fromkeys(_ALIKED_KINDS, _describe_aliked),
    "xfeat": _describe_xfeat,
    "dedode": _describe_dedode,
    "keynet": _describe_keynet,
    "superpoint": _describe_superpoint,
}
