"""The project's own network with the head that one database's photos taught it: the state of a
database that was adapted.

The head is a part of the fitted state, beside words and whitenings, and lies with them in the
database. No torch: what learned the head is `whence.training.adapting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from whence.errors import BadOption, NotFitted
from whence.models.checkpoints.origins import get_weights
from whence.models.engines.lite_graph import OWN_OUTPUTS
from whence.models.engines.onnx_graph import open_graph, read_arrays, with_arrays
from whence.models.joined import Joined
from whence.models.lite import OWN, LiteDescriptor
from whence.models.local.sift import LocalDescriptors, RootSift
from whence.parts import Descriptor
from whence.registry import get_card

HEAD = ("mix.w", "mix.b", "fc.w", "fc.b")
"""Arrays of the head: a convolution that mixes channels, and a linear layer."""
LEARNED = "learned"
"""The part of the descriptor that the head makes."""
PREFIX = "adapted_"
"""Of the head's arrays in a database's state."""


class Adapted(Descriptor):
    """A descriptor with the project's own network in it, whose head is another. It can describe
    once it was given a state."""

    def __init__(self, descriptor: Descriptor, *, weights: str | Path | None = None) -> None:
        """`weights` is the network's file, where it is not the packaged one. Raises `BadOption` for
        other descriptors."""
        sight = own_network(descriptor)
        if sight is None:
            raise BadOption(
                "only the project's own network can be adapted: whence-lite0-words-960 and "
                "whence-lite0-448"
            )
        self.descriptor, self.sight, self._weights = descriptor, sight, weights
        self.dim, self.batch_size, self.least_side_px = (
            descriptor.dim,
            descriptor.batch_size,
            descriptor.least_side_px,
        )
        self.min_photos, self.num_sample_photos = (
            descriptor.min_photos,
            descriptor.num_sample_photos,
        )
        self.local: RootSift | None = descriptor.local if isinstance(descriptor, Joined) else None
        self.head: dict[str, np.ndarray] = {}

    @property
    def is_fitted(self) -> bool:  # type: ignore[override]
        return bool(self.head) and self.descriptor.is_fitted

    @property
    def state_bytes(self) -> int:  # type: ignore[override]
        return self.descriptor.state_bytes + sum(array.nbytes for array in self.head.values())

    def set_head(self, head: Mapping[str, np.ndarray]) -> None:
        """Describe with this head from now on. Raises `BadOption` for arrays that are none of this
        network."""
        model = network_bytes(self._weights)
        own = read_arrays(model)
        for name in HEAD:
            found = head.get(name)
            if found is None or found.shape != own[name].shape:
                had = "nothing" if found is None else f"shape {found.shape}"
                raise BadOption(
                    f"the adapted head's {name!r} should have shape {own[name].shape}, found {had}"
                )
        self.head = {name: np.asarray(head[name], np.float32) for name in HEAD}
        self.sight.maps = open_graph(with_arrays(model, self.head), OWN_OUTPUTS)

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length. Raises `NotFitted`."""
        self._require_head()
        return self.descriptor.describe(images)

    def describe_with_local(
        self, images: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, LocalDescriptors]]:
        """For each image its descriptor (D,) and the local descriptors that are in it. Raises
        `NotFitted`."""
        self._require_head()
        return self.descriptor.describe_with_local(images)

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        """Fit all but the head on uint8 images. Raises `NotFitted` for none, and without a head."""
        self._require_head()
        self.descriptor.fit(images, seed=seed)

    def load_packaged(self) -> None:
        """Take what comes with Whence for all but the head. Raises `NotFitted` without one."""
        self._require_head()
        self.descriptor.load_packaged()

    def begin_from(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the head of a state; the rest is to be fitted anew."""
        self.set_head(
            {
                name.removeprefix(PREFIX): array
                for name, array in state.items()
                if name.startswith(PREFIX)
            }
        )

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state, and the head. Raises `NotFitted`."""
        self._require_head()
        return {
            **self.descriptor.state(),
            **{f"{PREFIX}{name}": array for name, array in self.head.items()},
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance was given. Raises `BadOption` where shapes do not fit."""
        self.begin_from(state)
        self.descriptor.load_state(
            {name: array for name, array in state.items() if not name.startswith(PREFIX)}
        )

    def _require_head(self) -> None:
        if not self.head:
            raise NotFitted(
                "the option adapted is for databases that  whence train adapt  has adapted; leave "
                "it out"
            )


def own_network(descriptor: Descriptor) -> LiteDescriptor | None:
    """The part of a descriptor that is the project's own network; None where there is none."""
    sight = descriptor.sight if isinstance(descriptor, Joined | Adapted) else descriptor
    return sight if isinstance(sight, LiteDescriptor) and LEARNED in sight.parts else None


def learned_columns(descriptor: Descriptor) -> slice:
    """Which numbers of a descriptor the head makes. Of descriptors with the project's own network
    alone."""
    sight = own_network(descriptor)
    assert sight is not None
    dims = {part: share.dim for part, share in sight.parts.items()}
    first = sum(list(dims.values())[: list(dims).index(LEARNED)])
    return slice(first, first + dims[LEARNED])


def network_bytes(weights: str | Path | None = None) -> bytes:
    """The project's own network as it comes, or that of another file. Raises as `get_weights`."""
    return Path(get_weights(get_card(OWN), weights=weights)[0]).read_bytes()
