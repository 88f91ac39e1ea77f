"""What a federated training follows from beside its recipe. Values alone: nothing here needs torch
or Flower."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, Self

from whence import records
from whence.errors import BadOption

SplitName = Literal["random", "clustering", "proximity", "city"]
StrategyName = Literal["fedavg", "fedavgm", "fedprox", "fedadam", "fedvc"]
NormName = Literal["kept", "averaged", "local"]
_WHAT = "field of the federation"


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a training set is cut into clients; whole cells of the ground go to one client, so that
    positives stay with queries."""

    name: SplitName = "random"
    """`random`: cells are drawn; `clustering`: k-means of the cells' places; `proximity`: the cells
    nearest to drawn places; `city`: one client for each first folder that database and queries
    share. Names are FedVPR's, what they do is our reading."""
    num_clients: int = 8
    cell_m: float = 25.0
    """Side of a cell."""
    skew: float = 0.0
    """Sigma of the lognormal numbers that sizes of clients are drawn from; 0 makes them alike. Of
    `random` and `proximity`."""
    seed: int = 0
    positive_m: float = 10.0
    excluded_m: float = 25.0
    min_queries: int = 20
    """Clients with fewer queries that can be learned from join the nearest other client."""
    num_negatives: int = 5
    """Photos farther than `excluded_m` that a query needs within its client."""

    def __post_init__(self) -> None:
        if self.num_clients < 1:
            raise BadOption(f"{self.num_clients} clients are not possible; give 1 or more")
        if self.skew < 0 or self.cell_m <= 0:
            raise BadOption("a skew is 0 or more, and a cell has a side above 0 m")
        if self.skew and self.name not in ("random", "proximity"):
            raise BadOption(
                f"a split by {self.name} makes clients as large as their places are; --skew goes "
                "with random and proximity"
            )


@dataclass(frozen=True, slots=True)
class FederatedOptions:
    """Rounds, what clients do in each, and how their work is joined."""

    strategy: StrategyName = "fedavg"
    """Flower's FedAvg (McMahan et al., 2017), FedAvgM (Hsu et al., 2019), FedProx (Li et al.,
    2020), FedAdam (Reddi et al., 2021); `fedvc` is FedAvg with clients drawn in proportion to their
    size, a fixed number of steps, equal weights (Hsu et al., 2020)."""
    num_rounds: int = 10
    clients_per_round: int = 4
    num_steps: int = 0
    """Local steps of a round; 0 takes one pass over the client's queries. Of `fedvc` always a
    number."""
    is_uneven: bool = False
    """Devices of unequal speed: each client does between one and `num_steps` steps, always as
    many."""
    server_lr: float = 0.0
    """Of `fedavgm` and `fedadam`; 0 takes 1 and 0.001."""
    server_momentum: float = 0.9
    """Of `fedavgm`."""
    proximal_mu: float = 0.01
    """Of `fedprox`."""
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    """Of `fedadam`."""
    norms: NormName = "kept"
    """Running statistics of batch norms: `kept` as the network began, `averaged` like weights, or
    `local`, each client's own."""
    timeout_s: float = 600.0
    """A client that has not answered by then is left out of the round."""
    least_clients: int = 1
    """Fewer good answers leave the network as it was in that round."""
    clip_norm: float = 0.0
    """Flower's differential privacy: what clients changed is scaled to this norm at most; 0 leaves
    it off."""
    noise: float = 0.0
    """Flower's noise multiplier beside `clip_norm`."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_rounds, self.clients_per_round, self.least_clients) < 1:
            raise BadOption("rounds, clients of a round and the least answers are 1 or more")
        if self.strategy == "fedvc" and self.num_steps < 1:
            raise BadOption(
                "fedvc gives every client the same number of steps; say how many with num_steps=N"
            )
        if self.is_uneven and (self.num_steps < 1 or self.strategy == "fedvc"):
            raise BadOption(
                "unequal devices do up to num_steps=N steps, and fedvc gives all the same number"
            )
        if self.noise and not self.clip_norm:
            raise BadOption("noise is measured against clip_norm; give both")

    def to_json(self) -> str:
        """The options as text."""
        return json.dumps(records.as_values(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The options that `to_json` wrote. Raises `UnknownName` and `BadOption`."""
        return records.fill(cls, json.loads(text), what=_WHAT)
