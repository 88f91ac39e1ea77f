"""What parts must be able to do: descriptors, which have defaults for nearly all of it, matchers
and pair scorers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from whence.cards import Preprocessing
from whence.errors import BadOption
from whence.runtime import map_threads
from whence.types import PairEvidence, PointPairs


class Extractor(Protocol):
    """What finds points of one image and describes them: a
    `whence.models.local.sift.LocalDescriptors`."""

    @property
    def key(self) -> str: ...

    def extract(self, image: np.ndarray) -> Any: ...


class Descriptor(ABC):
    """What turns images into global descriptors. One of your own gives `dim` and `describe`;
    everything else has a default."""

    dim: int
    """Numbers per image."""
    batch_size: int = 8
    """Images that it likes to see together."""
    least_side_px: int = 1
    """Shortest side of images that it takes."""
    is_fitted: bool = True
    """Whether it can describe; False for one that must be fitted, or be given a state, before."""
    min_photos: int = 0
    """Photos below which fitting makes no sense and the packaged state is used."""
    state_bytes: int = 0
    """What a database keeps of it once it is fitted."""
    num_sample_photos: int = 500
    """Photos it looks at when it is fitted on a database, where there are so many."""
    network: Any = None
    """The `whence.models.networks.Network` underneath; None where there is none."""
    local: Extractor | None = None
    """What finds the local descriptors that `pool` makes a descriptor of; None where descriptors
    are not made so."""

    @abstractmethod
    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length of uint8 images (H, W, 3), whose sizes may
        differ."""

    def attention(self, image: np.ndarray) -> np.ndarray | None:
        """Weights of the pixels of a uint8 image (H, W, 3) in its descriptor, (H, W) above 0; None
        for what has no attention."""
        return None

    @property
    def reading(self) -> Preprocessing | None:
        """Steps of a photo before `describe` gets its pixels; None for what the card says."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the numbers depend on and that it chose by itself, for a database to
        remember."""
        return {}

    def configure(self, preprocessing: Preprocessing) -> None:  # noqa: B027 (nothing to do for most)
        """Take over the card's preprocessing, for those that do a part of it themselves."""

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:  # noqa: B027 (as above)
        """Learn from a stream of images, for those that are fitted."""

    def load_packaged(self) -> None:
        """Take the state that comes with Whence. Raises `BadOption` where there is none."""
        raise BadOption(f"{type(self).__name__} has no packaged state")

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state, by name, that a database keeps."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance fitted. Raises `BadOption` for a state that does not
        fit."""
        if state:
            raise BadOption(
                f"{type(self).__name__} keeps no state with a database, found {', '.join(state)}"
            )

    def begin_from(self, state: Mapping[str, np.ndarray]) -> None:  # noqa: B027 (as above)
        """Take over what stays of a database's state when it is fitted anew: by default nothing."""

    def pool(self, local: Any) -> np.ndarray:
        """The descriptor (D,) of what `local` found on one image."""
        raise BadOption(f"{type(self).__name__} makes no descriptor of local ones")

    def describe_with_local(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Any]]:
        """For each image its descriptor (D,) and what `local` found on it: by default the one made
        of the other by `pool`."""
        assert self.local is not None, "asked of descriptors with local ones alone"
        return [(self.pool(one), one) for one in map_threads(self.local.extract, images)]


@runtime_checkable
class Matcher(Protocol):
    """What finds points of two images that belong together.

    `prepare` does once per image what can be done alone; its arrays may be kept. `match` gives one
    record per candidate, in order, taking candidates from any iterable, some at a time; where one
    is None the record is None. `key` names all settings, before the first slash those that the kept
    arrays depend on.
    """

    @property
    def key(self) -> str: ...

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]: ...

    def match(
        self, query: Mapping[str, np.ndarray], candidates: Iterable[Mapping[str, np.ndarray] | None]
    ) -> Iterator[PointPairs | None]: ...


@runtime_checkable
class QuerySide(Protocol):
    """A matcher or scorer that prepares queries otherwise than photos of a database: by a smaller
    network, for example."""

    def prepare_query(self, image: np.ndarray) -> dict[str, np.ndarray]: ...


def prepare_query(part: Matcher | PairScorer, image: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays that a matcher or scorer prepares of a query's uint8 image (H, W, 3): in its own way
    of queries, where it has one."""
    return part.prepare_query(image) if isinstance(part, QuerySide) else part.prepare(image)


@runtime_checkable
class PairScorer(Protocol):
    """What compares a query with candidates, pair by pair.

    `prepare` does once per image what can be done alone; its arrays may be kept. `score` gives one
    record per candidate, in order, taking candidates one by one from any iterable; where one is
    None (its photo cannot be read) the record is None. `key` names all settings that what was
    calibrated depends on.
    """

    @property
    def key(self) -> str: ...

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]: ...

    def score(
        self, query: Mapping[str, np.ndarray], candidates: Iterable[Mapping[str, np.ndarray] | None]
    ) -> Iterator[PairEvidence | None]: ...
