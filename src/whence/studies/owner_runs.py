"""How the runs of the study of federated training are measured: a simulation on Flower, then
recall of what came out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whence import records
from whence.data.evaluation_sets import open_set
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.metrics import bootstrap_interval, first_hit_by_distance
from whence.evaluation.protocol import metric_ground
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.settings import parse_options
from whence.studies.frame import Run, Settings, Value
from whence.studies.owner_arms import ARMS, CENTRAL, Arm
from whence.training.federated.options import FederatedOptions, SplitOptions
from whence.training.federated.plans import FINAL, Federation, SimulationPlan
from whence.training.federated.processes import Flower
from whence.training.federated.splits import split, usable_queries, write_clients
from whence.training.recipe import Recipe, override


def measure_owners(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recall@1 of the network that an arm's clients learned, and what it took."""
    arm, seed = ARMS[str(run["arm"])], int(run["seed"])
    out = work / "trainings" / Run(run).key
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe = arm_recipe(arm, options, seed=seed)
    federation = Federation(recipe, rounds_of(arm, options, seed=seed), out)
    values, clients = {"clients": Value(1.0), "lost queries": Value(0.0)}, ""
    if arm.split:
        data = open_set(str(options["train"]), split=str(options["train_split"]))
        chosen = split_of(arm, options, recipe, seed=seed)
        made = split(data, options=chosen)
        clients = str(work / f"clients {Run(run).key}.csv")
        write_clients(clients, made)
        lost = int(usable_queries(data, chosen).sum() - made.num_usable.sum())
        values = {"clients": Value(float(made.num)), "lost queries": Value(float(lost))}
    federation.write()
    if not (out / FINAL).is_file():
        plan = SimulationPlan(
            str(options["train"]),
            str(work / "pixels"),
            str(options["train_split"]),
            clients,
            arm.tint,
        )
        Flower.find(str(options["flower"]) or None).simulate(out, plan)
    rounds = [line for line in federation.log() if "round" in line]
    values["local steps"] = Value(float(sum(line.get("steps", 0) for line in rounds)))
    values["sent"] = Value(sum(line["bytes_up"] + line["bytes_down"] for line in rounds) / 1e6)
    hits = _hits(out / FINAL, options)
    values["recall@1"] = Value(float(hits.mean()), *bootstrap_interval(hits))
    kept = work / "hits"
    kept.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept / f"{Run(run).key}.npy") as file:
        np.save(file, hits)
    central = kept / f"{Run({**run, 'arm': CENTRAL}).key}.npy"
    if arm.split and central.is_file():
        apart = hits - np.load(central)
        values["difference to central"] = Value(float(apart.mean()), *bootstrap_interval(apart))
    return values


def arm_recipe(arm: Arm, options: Settings, *, seed: int) -> Recipe:
    """The recipe that clients learn by. Raises `UnknownName` and `BadOption`."""
    changes = [*str(options["changes"]).split(), *arm.recipe, f"loop.seed={seed}"]
    return override(get_recipe(str(options["recipe"])), changes)


def rounds_of(arm: Arm, options: Settings, *, seed: int) -> FederatedOptions:
    """The rounds of an arm."""
    steps, at_once = int(options["steps"]), int(options["clients_per_round"])
    if not arm.split:
        steps, at_once = steps * at_once, 1
    plain = FederatedOptions(
        num_rounds=int(options["rounds"]), clients_per_round=at_once, num_steps=steps, seed=seed
    )
    return records.with_values(plain, parse_options(arm.rounds), what="field of the rounds")


def split_of(arm: Arm, options: Settings, recipe: Recipe, *, seed: int) -> SplitOptions:
    """The split of an arm; what is near and far is the recipe's."""
    plain = SplitOptions(
        num_clients=int(options["clients"]), min_queries=int(options["min_queries"]), seed=seed
    )
    mining = getattr(recipe.branches[0], "mining", None)
    if mining is not None:
        near = {
            "positive_m": mining.positive_m,
            "excluded_m": mining.excluded_m,
            "num_negatives": mining.num_negatives,
        }
        plain = records.with_values(plain, near, what="field of the split")
    return records.with_values(plain, parse_options(arm.split), what="field of the split")


def _hits(weights: Path, options: Settings) -> np.ndarray:
    """(Q,) whether the first answer of each query that has one lies within 25 m."""
    data = open_set(str(options["data"]), split=str(options["split"]))
    found = evaluate(
        str(weights), data, options=EvaluationOptions(k=1, recall_at=(1,)), show_progress=False
    )
    ground = metric_ground(found.data.database, found.data.queries)
    first = first_hit_by_distance(
        found.predictions, ground.database, ground.queries, thresholds_m=(25.0,)
    )[0]
    return np.asarray(first < 1, float)
