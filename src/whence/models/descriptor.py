"""`DescriptorModel`: a descriptor, its card, and the preprocessing the card asks for. What
evaluation and the localizer use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.cards import ModelCard, Preprocessing
from whence.data.images import load_image, load_resized
from whence.errors import BadOption, MissingExtra, NotFitted, UnreadableImage
from whence.models.asking import QueryViews, Question, Views
from whence.models.pca import PCA_OPTIONS, Reduced
from whence.parts import Descriptor
from whence.registry import build, get_card
from whence.runtime import map_threads
from whence.settings import load_settings
from whence.types import PhotoSource

NETWORK_OPTIONS = ("engine", "onnx", "onnx_hash", "upstream_order", "crop", "resize")
"""Options that every network has beside its own, see
`whence.models.network_descriptor.NetworkDescriptor.configure`."""


COLOURS = ("rgb", "bgr")
"""In which order a network takes colours."""


class Described(NamedTuple):
    """One photo's descriptor (D,) and, where asked for, its local descriptors as arrays to be
    kept."""

    descriptor: np.ndarray
    local: dict[str, np.ndarray] | None = None
    own_question: Question | None = None
    """What a query asks with, where it is looked at in a mode; `descriptor` is then the mean."""

    @property
    def question(self) -> Question:
        """The question of the photo as a query."""
        return self.own_question or Question(self.descriptor[None])


class DescriptorModel:
    """Turns photos into global descriptors (N, D) float32, with the preprocessing of its card.

    >>> model = load_model("rootsift-vlad")
    >>> model.load_packaged()
    >>> model.describe([np.zeros((60, 80, 3), np.uint8)]).shape
    (1, 8192)
    """

    def __init__(
        self, card: ModelCard, descriptor: Descriptor, *, options: Mapping[str, Any] | None = None
    ) -> None:
        self.card = card
        self.descriptor = descriptor
        self._options = dict(options or {})

    def __repr__(self) -> str:
        return (
            f"<DescriptorModel {self.name}: {self.dim} "
            f"dimensions{'' if self.is_fitted else ', not fitted yet'}>"
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options in force, for a database to remember: those given, and what a network chose
        by itself."""
        return {**self._options, **self.descriptor.settings}

    @property
    def preprocessing(self) -> Preprocessing:
        """Steps of a photo before the descriptor gets its pixels: as the card says, unless the
        options say otherwise."""
        return self.descriptor.reading or self.card.preprocessing

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def dim(self) -> int:
        return self.descriptor.dim

    @cached_property
    def query_model(self) -> DescriptorModel:
        """The model that describes queries: itself, unless its card names another one whose
        descriptors are compared with its own.

        Raises `UnknownName`, `BadOption` where that one has other dimensions, and `NotFitted` where
        it would have to be fitted.
        """
        if self.card.query_model in ("", self.name):
            return self
        model = load_model(self.card.query_model)
        if model.dim != self.dim:
            what = (
                f"{model.name} describes queries with {model.dim} dimensions and {self.name} "
                f"photos with {self.dim}"
            )
            raise BadOption(
                f"{what}; its card must name a query_model of the same dimensions, and a PCA fits "
                "neither alone"
            )
        if self.card.query_weights and self.card.query_weights != model.weights_digest:
            raise BadOption(
                f"{self.name} was aligned with other weights of {model.name} than these; use "
                "those, or align a copy of these anew"
            )
        if not model.is_fitted:
            raise NotFitted(
                f"{model.name}, which describes queries for {self.name}, is fitted on photos; "
                "name one that comes as it is"
            )
        return model

    @property
    def is_fitted(self) -> bool:
        return self.descriptor.is_fitted

    @property
    def weights_digest(self) -> str:
        """Digits that stand for a network's weights; empty for what is none."""
        if self.descriptor.network is None:
            return ""
        from whence.models.checkpoints.files import weights_digest

        return weights_digest(self.descriptor.network)

    @property
    def batch_size(self) -> int:
        """Photos described together."""
        return self.descriptor.batch_size

    @property
    def min_photos_to_fit(self) -> int:
        """Photos below which fitting makes no sense and the packaged state is used; 0 for models
        that are not fitted."""
        return self.descriptor.min_photos

    def read(self, source: PhotoSource) -> np.ndarray:
        """The photo as the model sees it: uint8 (H, W, 3), upright, resized as the card says.

        Raises `UnreadableImage`, also for a photo too small for the network: it costs only itself,
        as a broken one does.
        """
        return self._with_size(read_as(source, self.preprocessing), source)

    def _with_size(self, image: np.ndarray, source: PhotoSource) -> np.ndarray:
        least = self.descriptor.least_side_px
        if min(image.shape[:2]) < least and self.preprocessing == self.card.preprocessing:
            height, width = image.shape[:2]
            name = source if isinstance(source, str | Path) else "photo"
            raise UnreadableImage(
                name,
                (
                    f"{width} x {height} pixels are too few for {self.name}, which needs {least} "
                    "on each side"
                ),
            )
        return image

    def attention(self, source: PhotoSource) -> np.ndarray | None:
        """Weights of a photo's pixels as the model sees it, (H, W) float32; None for models without
        attention."""
        return self.descriptor.attention(self.read(source))

    def fit(self, sources: Iterable[PhotoSource], *, seed: int = 0) -> None:
        """Fit on these photos, read one by one; unreadable ones are passed over. Models that need
        no fitting do nothing."""
        readable = (
            image
            for image in map_threads(self._read_or_error, sources)
            if isinstance(image, np.ndarray)
        )
        self.descriptor.fit(readable, seed=seed)

    def load_packaged(self) -> None:
        """Use the state that comes with Whence instead of fitting. Raises `BadOption` where there
        is none."""
        self.descriptor.load_packaged()

    def prepare(self, sources: Sequence[PhotoSource], *, seed: int = 0) -> str:
        """A sentence on how a model that is not fitted yet was made ready: fitted on a sample of
        the photos, or with the packaged state for few photos.

        Gives "fitted", "packaged" or "ready" (nothing to do).
        """
        if self.is_fitted:
            return "ready"
        if len(sources) < self.min_photos_to_fit:
            self.load_packaged()
            return "packaged"
        num_sampled = max(self.descriptor.num_sample_photos, self.min_photos_to_fit)
        chosen = (
            np.linspace(0, len(sources) - 1, min(num_sampled, len(sources))).round().astype(int)
        )
        self.fit((sources[i] for i in chosen), seed=seed)
        return "fitted"

    def describe(self, sources: Sequence[PhotoSource]) -> np.ndarray:
        """Descriptors (N, D) float32 of photos or pixels. Raises `UnreadableImage` for the first
        that cannot be read."""
        descriptors = np.zeros((len(sources), self.dim), np.float32)
        for i, result in enumerate(self.describe_each(sources)):
            if isinstance(result, UnreadableImage):
                raise result
            descriptors[i] = result.descriptor
        return descriptors

    def describe_each(
        self,
        sources: Iterable[PhotoSource],
        *,
        keep_local: bool = False,
        views: QueryViews | None = None,
    ) -> Iterator[Described | UnreadableImage]:
        """For each photo, in order, its descriptor or the error that kept it from being read.
        Photos decode in parallel.

        `keep_local` hands out the local descriptors too; raises `BadOption` for models that have
        none. `views` looks at the photos as a query mode says instead of as the card says.
        """
        if keep_local and (views is not None or self.descriptor.local is None):
            raise BadOption(
                f"{self.name} has no local descriptors to keep"
                + (" in a query mode" if views else "")
            )
        if (
            views is not None
            and views.mode != "hard_resize"
            and self.preprocessing != self.card.preprocessing
        ):
            raise BadOption(
                "upstream_order, crop and resize go with the query mode hard_resize, not "
                f"{views.mode}"
            )
        read = self._read_or_error if views is None else partial(self._views_or_error, views=views)
        photos: list[Views | UnreadableImage] = []
        asked = load_settings()
        batch_size = asked.batch_size or self.batch_size
        for photo in map_threads(read, sources, num_workers=asked.workers or None):
            photos.append((photo,) if isinstance(photo, np.ndarray) else photo)
            if len(photos) >= batch_size:
                yield from self._describe_batch(photos, keep_local=keep_local, views=views)
                photos = []
        yield from self._describe_batch(photos, keep_local=keep_local, views=views)

    def _describe_batch(
        self, photos: list[Views | UnreadableImage], *, keep_local: bool, views: QueryViews | None
    ) -> Iterator[Described | UnreadableImage]:
        readable = [image for photo in photos if isinstance(photo, tuple) for image in photo]
        if keep_local:
            both = self.descriptor.describe_with_local(readable)
            found = iter([Described(descriptor, local.to_arrays()) for descriptor, local in both])
            yield from (
                photo if isinstance(photo, UnreadableImage) else next(found) for photo in photos
            )
            return
        rows = self.descriptor.describe(readable)
        first = 0
        for photo in photos:
            if isinstance(photo, UnreadableImage):
                yield photo
                continue
            of_photo = rows[first : first + len(photo)]
            first += len(photo)
            if views is None:
                yield Described(of_photo[0])
            else:
                question = views.question(of_photo)
                yield Described(question.descriptor, own_question=question)

    def _views_or_error(self, source: PhotoSource, *, views: QueryViews) -> Views | UnreadableImage:
        try:
            if views.is_plain:
                return (self.read(source),)
            return tuple(
                self._with_size(view, source)
                for view in views.views(source, self.card.preprocessing, read_as)
            )
        except UnreadableImage as error:
            return error

    def _read_or_error(self, source: PhotoSource) -> np.ndarray | UnreadableImage:
        try:
            return self.read(source)
        except UnreadableImage as error:
            return error


def read_as(source: PhotoSource, steps: Preprocessing) -> np.ndarray:
    """A photo or pixels as a card asks for: uint8 (H, W, 3), upright, resized, its colours in the
    order that the card says.

    Raises `UnreadableImage`, `BadOption`, and `MissingExtra` where resizing exactly needs a package
    that is not there.
    """
    image = _read_resized(source, steps)
    if steps.colour not in COLOURS:
        raise BadOption(f"colour is {' or '.join(COLOURS)}, not {steps.colour!r}")
    return np.ascontiguousarray(image[..., ::-1]) if steps.colour == "bgr" else image


def _read_resized(source: PhotoSource, steps: Preprocessing) -> np.ndarray:
    if isinstance(source, np.ndarray) and (
        source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape
    ):
        raise BadOption(f"pixels must be uint8 (H, W, 3), not {source.dtype} {source.shape}")
    if steps.interpolation != "area":
        return _resize_exactly(
            source if isinstance(source, np.ndarray) else load_resized(source), steps
        )
    if steps.size_px is not None or steps.short_side_px is not None or steps.multiple_of != 1:
        raise BadOption(
            "size_px, short_side_px and multiple_of need the interpolation bilinear or bicubic"
        )
    if isinstance(source, np.ndarray):
        return _resized(source, steps)
    if steps.long_side_px is None:
        return load_image(source)
    return load_resized(source, long_side_px=steps.long_side_px, enlarge=steps.enlarge)


def load_model(name: str, *, options: Mapping[str, Any] | None = None) -> DescriptorModel:
    """The model of this name, ready to describe, or to be fitted where its card says so.

    `options` are the model's own settings, for example {"pca_dim": 256}; for networks also
    {"pca_whiten": True}, {"engine": "bf16"} and the other `NETWORK_OPTIONS`; for all of them
    {"query_model": NAME}, the model that describes queries instead of the card's; {"adapted": True}
    is of databases that were adapted, for their state to be loaded into.
    Raises `UnknownName` with the nearest names, and `BadOption` for settings the model has not.
    """
    card = get_card(name)
    options = dict(options or {})
    of_network = {key: value for key, value in options.items() if key in NETWORK_OPTIONS}
    asking = options.get("query_model")
    own = {
        key: value
        for key, value in options.items()
        if key not in of_network and key != "query_model"
    }
    is_adapted = own.pop("adapted", False)
    reduction = {key: own.pop(key) for key in PCA_OPTIONS if key in own} if card.backbone else {}
    descriptor = build("model", name, options=own)
    if not isinstance(descriptor, Descriptor):
        raise BadOption(
            f"model {name} is made as a {type(descriptor).__name__}; let its class derive from "
            "whence.parts.Descriptor"
        )
    if of_network and descriptor.network is None:
        raise BadOption(
            f"model {name} has no option {next(iter(of_network))!r}, which is for networks"
        )
    descriptor.configure(card.preprocessing, **of_network)
    if reduction:
        descriptor = _reduced(descriptor, reduction)
    if is_adapted:
        from whence.models.adapted import Adapted

        descriptor, own = Adapted(descriptor, weights=own.get("weights")), {**own, "adapted": True}
    if asking is None:
        return DescriptorModel(card, descriptor, options={**own, **reduction})
    card = replace(card, query_model=str(asking))
    return DescriptorModel(
        card, descriptor, options={**own, **reduction, "query_model": card.query_model}
    )


def _reduced(descriptor: Descriptor, reduction: Mapping[str, Any]) -> Reduced:
    dim, is_whitened = reduction.get("pca_dim"), reduction.get("pca_whiten", False)
    if not isinstance(dim, int) or isinstance(dim, bool) or not isinstance(is_whitened, bool):
        raise BadOption("pca_dim is a number of dimensions, and pca_whiten true or false beside it")
    return Reduced(descriptor, pca_dim=dim, is_whitened=is_whitened)


def _resize_exactly(image: np.ndarray, steps: Preprocessing) -> np.ndarray:
    try:
        from whence.models.preprocessing import resize_image
    except ImportError:
        raise MissingExtra("resizing exactly", "torch") from None
    return resize_image(image, steps)


def _resized(image: np.ndarray, steps: Preprocessing) -> np.ndarray:
    height, width = image.shape[:2]
    if steps.long_side_px is None or max(height, width) == steps.long_side_px:
        return image
    scale = steps.long_side_px / max(height, width)
    if scale > 1 and not steps.enlarge:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
