"""A federated training in a folder: its recipe, its rounds, a checkpoint after each, and the
network that came out.

Runs where Flower is. A killed server goes on from its last round; on one machine the numbers are
those of one that was not killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp import Grid

from whence.training import checkpoints
from whence.training.federated import rounds
from whence.training.federated.local import LocalWork, load_travelling, make_start, travelling
from whence.training.federated.plans import FINAL, LOG, Federation
from whence.training.federated.splits import Clients


def serve(federation: Federation, grid: Grid) -> Path:
    """The file of the network, after the rounds that are left. Raises as making the learner
    does."""
    learner = make_start(federation.recipe)
    start = {
        name: value.detach().numpy().copy()
        for name, value in travelling(learner.module, norms=federation.options.norms).items()
    }
    names, folder = list(start), federation.out / "checkpoints"
    folder.mkdir(exist_ok=True)
    file, first, state = checkpoints.newest_checkpoint(folder), 0, {}
    if file is not None:
        held = checkpoints.read_checkpoint(file)
        start = {name: held.tensors[f"network.{name}"].numpy() for name in names}
        state = {
            name.removeprefix("state."): v.numpy()
            for name, v in held.tensors.items()
            if name.startswith("state.")
        }
        first = int(held.values["round"])
    sent = {"recipe": federation.recipe.to_json(), "norms": federation.options.norms}
    strategy, stateful = rounds.make_strategy(
        federation.options, orders=sent, first=first, note=rounds.log_to(federation.out / LOG)
    )
    rounds.load_state(stateful, state, names)
    last = [start]

    def keep(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        last[0] = rounds.as_tensors(arrays)
        if number:
            _keep(federation, first + number, last[0], rounds.state_of(stateful, names))
        return None

    if first < federation.options.num_rounds:
        strategy.start(
            grid,
            rounds.as_record(start),
            num_rounds=federation.options.num_rounds - first,
            timeout=federation.options.timeout_s,
            evaluate_fn=keep,
        )
    load_travelling(learner.module, last[0], norms=federation.options.norms)
    return _finish(federation, learner)


def _keep(federation: Federation, number: int, tensors: rounds.State, state: rounds.State) -> None:
    folder = federation.out / "checkpoints"
    held = {f"network.{name}": value for name, value in tensors.items()} | {
        f"state.{name}": v for name, v in state.items()
    }
    written = {name: torch.from_numpy(np.array(value)) for name, value in held.items()}
    checkpoints.write_checkpoint(
        checkpoints.checkpoint_file(folder, number), written, {"round": number}
    )
    checkpoints.remove_older(folder, step=number)


def _finish(federation: Federation, learner: Any) -> Path:
    card = None if learner.card is None else learner.card(learner.module)
    if card is not None:
        how = (
            f"{federation.options.num_rounds} rounds of {federation.options.strategy} with "
            f"{len(federation.clients())} clients"
        )
        card = replace(card, training_data=f"{how}, who kept their photos")
    values = {
        "step": federation.options.num_rounds,
        "recipe": federation.recipe.name,
        "recall": None,
    }
    checkpoints.write_checkpoint(
        federation.out / FINAL, learner.module.state_dict(), values, card=card
    )
    return federation.out / FINAL


def simulate(
    federation: Federation, clients: Clients, *, pixels_folder: str | Path, tint: float = 0.0
) -> Path:
    """The network that the clients of a split learn, all in this process, one after the other.
    Raises as `Federation.serve`."""
    federation.write()
    asked = [
        _client(federation, clients, number, Path(pixels_folder), tint)
        for number in range(clients.num)
    ]
    return serve(federation, rounds.InProcess(asked))


def _client(
    federation: Federation, clients: Clients, number: int, pixels: Path, tint: float
) -> Callable[[Message], Message]:
    def work() -> LocalWork:
        norms = federation.options.norms
        return LocalWork(
            federation.recipe,
            clients.of(number),
            number=number,
            pixels_folder=pixels,
            norms=norms,
            tint=tint,
        )

    return rounds.safely(work, name=f"client {number:03d}")


def centrally(federation: Federation, data: Any, *, pixels_folder: str | Path) -> Path:
    """The network that one owner of all photos learns in the same rounds: the whole set as the one
    client."""
    whole = replace(federation, options=replace(federation.options, clients_per_round=1))
    whole.write()

    def work() -> LocalWork:
        return LocalWork(whole.recipe, data, pixels_folder=pixels_folder, norms=whole.options.norms)

    return serve(whole, rounds.InProcess([rounds.safely(work, name="all")]))
