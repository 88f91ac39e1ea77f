"""What is said to the processes of a federated training, as JSON files. Values alone: nothing here
needs torch or Flower."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from whence import records
from whence.errors import BadOption, InputError
from whence.runtime import claim_folder
from whence.training.datasets import Dataset, Source
from whence.training.federated.options import FederatedOptions
from whence.training.recipe import Recipe

FINAL, LOG, PLAN = "final.safetensors", "rounds.jsonl", "federated.json"


@dataclass(frozen=True)
class Federation:
    """What a server needs, as the folder of a training keeps it."""

    recipe: Recipe
    options: FederatedOptions
    out: Path

    def write(self) -> None:
        """Make the folder, or see that it is of the same training. Raises `BadOption` and
        `InputError`."""
        plan = {
            "recipe": json.loads(self.recipe.to_json()),
            "options": json.loads(self.options.to_json()),
        }
        found = claim_folder(self.out, plan, name=PLAN)
        if found is not None and {name: found.get(name) for name in plan} != plan:
            raise BadOption(
                f"{str(self.out)!r} holds another federated training; choose another folder with "
                "--out"
            )

    @classmethod
    def read(cls, out: str | Path) -> Federation:
        """The federation that `write` wrote. Raises `InputError`."""
        try:
            plan = json.loads((Path(out) / PLAN).read_text(encoding="utf-8"))
            recipe = Recipe.from_json(json.dumps(plan["recipe"]))
            return cls(recipe, FederatedOptions.from_json(json.dumps(plan["options"])), Path(out))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{str(out)!r} holds no federated training ({error})") from None

    def clients(self) -> list[str]:
        """The names of the clients whose work counted in any round."""
        return sorted({name for line in self.log() for name in line.get("clients", [])})

    def log(self) -> list[dict[str, Any]]:
        """Lines of the log; of a round that was done again after a kill, the last."""
        file = self.out / LOG
        lines = (
            [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            if file.is_file()
            else []
        )
        others = [line for line in lines if "round" not in line]
        return [*others, *{line["round"]: line for line in lines if "round" in line}.values()]


class Work(NamedTuple):
    """What a client is asked for."""

    round: int
    """From 0."""
    num_rounds: int
    num_steps: int = 0
    """0 for one pass over the client's tuples."""
    proximal_mu: float = 0.0
    is_uneven: bool = False
    """Whether the client's device does its own number of steps, up to `num_steps`."""


def num_learned_from(recipe: Recipe, data: Source) -> int:
    """Queries, or photos where the recipe learns from photos alone: the size by which a client
    counts."""
    said = recipe.branches[0].sizes(Dataset(data, show_progress=False), seed=recipe.loop.seed)
    return said.get("num_queries") or max(said.values())


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One owner of photos."""

    name: str
    data: str
    pixels: str
    """Folder for decoded photos."""
    split: str = ""
    clients: str = ""
    """CSV of a split of the data; empty where all of it is this client's."""
    number: int = 0
    tint: float = 0.0

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(records.as_values(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote. Raises `UnknownName` and `BadOption`."""
        return records.fill(cls, json.loads(text), what="field of the plan")


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """All clients of a split in one process; without a split one owner of everything."""

    FILE: ClassVar[str] = "simulation.json"

    data: str
    pixels: str
    split: str = ""
    clients: str = ""
    tint: float = 0.0

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(records.as_values(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote. Raises `UnknownName` and `BadOption`."""
        return records.fill(cls, json.loads(text), what="field of the plan")
