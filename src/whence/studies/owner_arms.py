"""The arms of the study of federated training: what each changes of rounds, split and recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Arm(NamedTuple):
    """What a row changes."""

    rounds: tuple[str, ...] = ()
    """Of the rounds."""
    split: tuple[str, ...] = ("name=random",)
    """Of the split; none for one owner of everything, who does the steps of a round's clients."""
    recipe: tuple[str, ...] = ()
    tint: float = 0.0


_SKEWED = ("name=random", "skew=1.2")
_SGD = ("optimizer.name=sgd",)
CENTRAL = "central"
ARMS: Mapping[str, Arm] = {
    CENTRAL: Arm(split=()),
    "not trained": Arm(("num_rounds=1", "num_steps=1"), (), ("optimizer.lr=1e-12",)),
    "fedavg, random": Arm(),
    "fedavg, clustering": Arm(split=("name=clustering",)),
    "fedavg, proximity": Arm(split=("name=proximity",)),
    "fedavg, city": Arm(split=("name=city",)),
    "fedvc, random": Arm(("strategy=fedvc",)),
    "fedavg, skewed": Arm(split=_SKEWED),
    "fedvc, skewed": Arm(("strategy=fedvc",), _SKEWED),
    "fedavg, skewed, one pass a round": Arm(("num_steps=0",), _SKEWED),
    "fedavg, unequal devices": Arm(("is_uneven=true",)),
    "fedavg, colours of each client": Arm(tint=1.0),
    "fedavg, negatives within 150 m": Arm(recipe=("mining.scope_m=150",)),
    "fedavg, negatives within 50 m": Arm(recipe=("mining.scope_m=50",)),
    "fedavg, skewed, SGD": Arm((), _SKEWED, _SGD),
    "fedvc, skewed, SGD": Arm(("strategy=fedvc",), _SKEWED, _SGD),
    "fedavgm": Arm(("strategy=fedavgm",)),
    "fedprox": Arm(("strategy=fedprox",)),
    "fedadam": Arm(("strategy=fedadam",)),
}
MAIN = (CENTRAL, "fedavg, random", "fedavg, city", "fedavg, skewed", "fedvc, skewed")
