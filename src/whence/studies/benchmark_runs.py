"""How the runs of the benchmark's studies are measured: trainings on tuples and on places, sizes,
PCA, published networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whence.cards import ModelCard, Preprocessing
from whence.data.evaluation_sets import open_set
from whence.errors import BadOption, MissingExtra
from whence.evaluation.cost import EvaluationCost, PeakMemory, measured_cost
from whence.index.flat import FlatIndex
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.pca import fit_pca
from whence.recipes import get_recipe
from whence.studies.benchmark import AUGMENTATIONS, RETRIEVAL
from whence.studies.frame import Run, Settings, Value
from whence.studies.shortlists import NUM_FOUND, Shortlists, read_set
from whence.training.options.learners import NetworkOptions
from whence.training.recipe import Recipe, override, size_px


def measure_mining(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls after a training with the run's mining and aggregation; visual words begin at the
    backbone's local descriptors."""
    changes = [f"mining.name={run['mining']}", f"aggregator.name={run['aggregation']}"]
    start = "backbone" if run["aggregation"] == "netvlad" else "all"
    return _after_tuples(options, work, [*changes, f"start_with={start}"])


def measure_augmentation(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls after a training whose queries are augmented as the run says."""
    return _after_tuples(options, work, list(AUGMENTATIONS[str(run["augmentation"])]))


def measure_retrieval(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls after a training on places with one thing changed."""
    changes = list(RETRIEVAL[str(run["factor"])][str(run["value"])])
    return _after_training(_recipe(options, "places"), options, work, changes)


def measure_size(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls and costs with photos of a share of the size that the model's card says."""
    model = load_model(str(options["model"]))
    size = model.card.preprocessing.size_px
    if size is None or model.descriptor.network is None:
        raise BadOption(
            f"{model.name} takes photos of any size: name a network whose card says one"
        )
    height, width = (max(1, round(side * int(run["size %"]) / 100)) for side in size)
    smaller = replace(model.card.preprocessing, size_px=(height, width))
    model.descriptor.configure(smaller)
    return _evaluated(
        DescriptorModel(replace(model.card, preprocessing=smaller), model.descriptor), options
    )


def measure_pca(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls of descriptors after a PCA that is fitted on those of the database."""
    lists = Shortlists(read_set(options), model=str(options["model"]), work=work)
    database, queries = lists.descriptors
    if dim := int(run["PCA"]):
        mean, axes = fit_pca(database, dim, is_whitened=run["whitened"] == "yes")
        projected = [(rows - mean) @ axes.T for rows in (database, queries)]
        lengths = [
            np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in projected
        ]
        database, queries = (
            np.asarray(rows / length, np.float32)
            for rows, length in zip(projected, lengths, strict=True)
        )
    found = FlatIndex.over(database).search(queries, k=min(NUM_FOUND, len(database))).ids
    sizes = {
        "dimensions": Value(float(database.shape[1])),
        "descriptors": Value(database.nbytes / 1e6),
    }
    return lists.recalls(found) | sizes


def measure_published(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls and costs of a published network, where its weights are on this machine."""
    return _evaluated(load_model(str(run["model"])), options)


def _after_tuples(options: Settings, work: Path, changes: list[str]) -> dict[str, Value]:
    """Recalls after a training on tuples."""
    recipe = _recipe(options, "tuples")
    own = f"aggregator.name={recipe.learner.aggregator.name}"  # type: ignore[attr-defined]
    if any(change.startswith("aggregator.name=") and change != own for change in changes):
        # What belongs to the recipe's own aggregator is no option of another.
        recipe = override(recipe, ["learner.aggregator.options={}"])
    return _after_training(recipe, options, work, changes)


def _recipe(options: Settings, kind: str) -> Recipe:
    """The study's recipe, whose branches are of this kind. Raises `BadOption`."""
    recipe = get_recipe(str(options["recipe"]))
    if {branch.kind for branch in recipe.branches} != {kind}:
        raise BadOption(
            f"the recipe {recipe.name} does not train on {kind}; name another with recipe=NAME"
        )
    return recipe


def _after_training(
    recipe: Recipe, options: Settings, work: Path, changes: list[str]
) -> dict[str, Value]:
    """Train into the work folder, or go on where that was stopped, and evaluate."""
    recipe = override(recipe, [*_common(options), *changes])
    try:
        from whence.training.learners import make_network
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    out = work / "trainings" / _name(changes)
    training = open_set(str(options["train"]), split=str(options["train_split"]))
    started = time.perf_counter()
    done = train(recipe, training, **_given(options, out, work))
    seconds = time.perf_counter() - started
    trained = override(
        recipe, [f"start_from={trained_weights(options, out)}", "start_with=all", "freeze_before="]
    ).learner
    assert isinstance(trained, NetworkOptions)
    width, height = size_px(recipe)
    return _evaluated(as_model(make_network(trained), out.name, (height, width)), options) | {
        "training": Value(seconds),
        "mining": Value(done.mining_share),
    }


def _common(options: Settings) -> list[str]:
    """Changes that all trainings of a study share."""
    start = [f"start_from={options['start']}"] if options["start"] else []
    return [*start, f"loop.seed={options['seed']}", *str(options["changes"]).split()]


def _given(options: Settings, out: Path, work: Path) -> dict[str, Any]:
    """What every training is told."""
    return {
        "out": out,
        "validation": open_set(str(options["val"]), split=str(options["val_split"]))
        if options["val"]
        else None,
        "pixels_folder": work / "pixels",
        "is_resumed": (out / "recipe.json").is_file(),
        "show_progress": False,
    }


def trained_weights(options: Settings, out: Path) -> Path:
    """The file of a training's weights: the best by the study's validation set, the last without
    one."""
    from whence.training.loop import BEST, FINAL

    return out / (BEST if options["val"] else FINAL)


def _name(changes: Sequence[str]) -> str:
    return ",".join(changes) or "plain"


def trained_model(
    recipe: Recipe, run: Settings, options: Settings, work: Path
) -> tuple[DescriptorModel, float]:
    """The model of a training in the work folder, which goes on where it was stopped, and seconds
    of this process."""
    try:
        from whence.training.learners import make_network
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    out = work / "trainings" / Run(run).key
    is_resumed = (out / "recipe.json").is_file()
    done = train(
        recipe,
        str(options["train"]),
        out=out,
        pixels_folder=work / "pixels",
        is_resumed=is_resumed,
        show_progress=False,
    )
    weights = trained_weights({"val": ""}, out)
    learner = override(
        recipe, [f"start_from={weights}", "start_with=all", "freeze_before="]
    ).learner
    assert isinstance(learner, NetworkOptions)
    width, height = size_px(recipe)
    return as_model(make_network(learner), out.name, (height, width)), done.seconds


def as_model(network: Any, name: str, size_px: tuple[int, int]) -> DescriptorModel:
    """A trained network as a model that looks at photos of the size it was trained at."""
    from whence.models.network_descriptor import NetworkDescriptor

    steps = Preprocessing(size_px=size_px, interpolation="bilinear")
    descriptor = NetworkDescriptor(network)
    descriptor.configure(steps, engine="eager")
    card = ModelCard(name, "trained for a study", network.dim, steps, "MIT")
    return DescriptorModel(card, descriptor)


def _evaluated(model: DescriptorModel, options: Settings) -> dict[str, Value]:
    """Recalls of the study's set, and what describing it took."""
    memory, data = PeakMemory(), read_set(options)
    lists = Shortlists(data, model=model, work=None)
    started = time.perf_counter()
    described = lists.descriptors
    spent = {"describe database": time.perf_counter() - started, "describe queries": 0.0}
    started = time.perf_counter()
    found = lists.search(*described)
    spent["search"] = time.perf_counter() - started
    cost = measured_cost(model, data, seconds=spent, peak_bytes=memory.peak_bytes(), is_kept=False)
    return lists.recalls(found) | _costs(cost)


def _costs(cost: EvaluationCost) -> dict[str, Value]:
    values = {
        "dimensions": float(cost.dim),
        "parameters": None if cost.num_parameters is None else cost.num_parameters / 1e6,
        "GFLOPs": None if cost.flops is None else cost.flops / 1e9,
        "descriptors": cost.index_bytes / 1e6,
        "describing": cost.describe_ms,
        "peak memory": cost.peak_bytes / 1e6,
    }
    return {name: Value(value) for name, value in values.items() if value is not None}
