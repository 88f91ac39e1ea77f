"""The branch that learns from mined tuples: a query, its best positive and its negatives.

After the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022) and the training of
NetVLAD (Arandjelovic et al., CVPR 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.errors import BadOption
from whence.training.datasets import Dataset
from whence.training.options.augment import AugmentOptions
from whence.training.options.kinds import BranchOptions

MiningName = Literal["random", "partial", "full", "msls_weighted"]
TupleLossName = Literal["triplet", "triplet_squared", "sare_joint", "sare_ind"]


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Which positive and which negatives a query is learned with, and how often they are looked for
    anew."""

    name: MiningName = "partial"
    """`random`: negatives are drawn; `partial`: the nearest of one pool that all queries share;
    `full`: the nearest of candidates drawn for each query and of those it had before;
    `msls_weighted`: partial, with more queries by night and to the side."""
    num_queries: int = 1000
    """Queries drawn for one refresh; all of them are learned from before the next."""
    num_negatives: int = 10
    num_candidates: int = 1000
    """Database photos that negatives are chosen from: the pool's size, or those drawn for each
    query."""
    positive_m: float = 10.0
    """Database photos within this distance of a query are its positives ..."""
    excluded_m: float = 25.0
    """... and those within this distance are never its negatives."""
    scope_m: float = 0.0
    """Negatives lie within this distance of their query, or are the nearest ones where too few do;
    0 takes them from anywhere."""
    batch_size: int = 16
    """Photos described at once while mining."""
    max_bytes: int = 16_777_216
    """What descriptors of database photos may take in memory at once."""

    def __post_init__(self) -> None:
        if self.scope_m and self.scope_m <= max(self.positive_m, self.excluded_m):
            raise BadOption(
                f"within {self.scope_m:g} m of a query there are no negatives; raise "
                "mining.scope_m or lower excluded_m"
            )


@dataclass(frozen=True, slots=True)
class WordOptions:
    """What visual words begin from, where an aggregator has them and they are not in the weights to
    start from."""

    num_photos: int = 500
    num_locations: int = 100
    """Local descriptors taken of each photo."""


@dataclass(frozen=True, slots=True)
class VocabularyOptions(BranchOptions):
    """Visual words found by k-means in local descriptors of the photos, before the first step;
    nothing else is learned."""

    kind: Literal["vocabulary"] = "vocabulary"
    words: WordOptions = WordOptions()
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """At which size photos are looked at; nothing else is done to them."""

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos, and how many of them are looked at."""
        return {
            "num_photos": len(data.photos),
            "num_looked_at": min(len(data.photos), self.words.num_photos),
        }


@dataclass(frozen=True, slots=True)
class TupleLossOptions:
    """The loss over tuples (`whence.training.losses.tuples`)."""

    name: TupleLossName = "triplet"
    margin: float = 0.1
    """For the two triplet forms."""


@dataclass(frozen=True, slots=True)
class TuplesOptions(BranchOptions):
    """Tuples mined with the network as it stands, all learned from before the next are mined."""

    kind: Literal["tuples"] = "tuples"
    words: WordOptions = WordOptions()
    mining: MiningOptions = MiningOptions()
    batch_queries: int = 4
    """Tuples of a batch."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """How queries are changed; positives and negatives are brought to size, and mirrored with the
    whole batch."""
    loss: TupleLossOptions = TupleLossOptions()
