"""The two sides as Flower starts them, and a simulation of both:
`python -m whence.training.federated.flower_app FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from whence.data.evaluation_sets import open_set
from whence.data.formats import EvaluationSet
from whence.errors import WhenceError
from whence.runtime import set_threads
from whence.training.federated import rounds
from whence.training.federated.plans import (
    LOG,
    ClientPlan,
    Federation,
    SimulationPlan,
    num_learned_from,
)
from whence.training.federated.splits import read_clients
from whence.training.recipe import Recipe

server = ServerApp()
client = ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """The rounds of the training whose folder the run names."""
    from whence.training.federated.federation import serve

    set_threads(1)
    federation = Federation.read(str(context.run_config["out"]))
    try:
        serve(federation, grid)
    except WhenceError as error:
        rounds.log_to(federation.out / LOG)({"error": str(error)})
        raise


@client.query()
def introduce(message: Message, context: Context) -> Message:
    """Name and size of this client; torch is not needed for it."""

    def answer(plan: ClientPlan, data: EvaluationSet, recipe: Recipe, norms: Any) -> Message:
        return rounds.introduce(message, name=plan.name, size=num_learned_from(recipe, data))

    return _answered(message, context, answer)


@client.train()
def learn(message: Message, context: Context) -> Message:
    """A round's work."""

    def answer(plan: ClientPlan, data: EvaluationSet, recipe: Recipe, norms: Any) -> Message:
        from whence.training.federated.local import LocalWork

        work = LocalWork(
            recipe, data, number=plan.number, pixels_folder=plan.pixels, norms=norms, tint=plan.tint
        )
        return rounds.answer(message, work, name=plan.name)

    return _answered(message, context, answer)


def _answered(
    message: Message,
    context: Context,
    answer: Callable[[ClientPlan, EvaluationSet, Recipe, Any], Message],
) -> Message:
    set_threads(1)
    sent = message.content.config_records["config"]
    try:
        plan = ClientPlan.from_json(
            Path(str(context.node_config["plan"])).read_text(encoding="utf-8")
        )
        data = open_set(plan.data, split=plan.split)
        if plan.clients:
            data = read_clients(plan.clients, data).of(plan.number)
        return answer(plan, data, Recipe.from_json(str(sent["recipe"])), sent["norms"])
    except WhenceError as error:
        return Message(Error(code=0, reason=str(error)), reply_to=message)


def simulated(out: Path) -> Path:
    """The network of a simulation whose plan lies in the folder."""
    from whence.training.federated.federation import centrally, simulate

    plan = SimulationPlan.from_json((out / SimulationPlan.FILE).read_text(encoding="utf-8"))
    federation, data = Federation.read(out), open_set(plan.data, split=plan.split)
    if not plan.clients:
        return centrally(federation, data, pixels_folder=plan.pixels)
    return simulate(
        federation, read_clients(plan.clients, data), pixels_folder=plan.pixels, tint=plan.tint
    )


if __name__ == "__main__":
    set_threads(1)
    try:
        print(json.dumps({"path": str(simulated(Path(sys.argv[1])))}))
    except WhenceError as error:
        sys.exit(f"error: {error}")
