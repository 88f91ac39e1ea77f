"""How the runs of SegVPR's study are measured: trainings on a labelled town, asked in another, and
attention by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whence.data.labels import IDDA_CLASSES, LabelledSet, read_classes, read_labelled_set
from whence.errors import BadOption
from whence.evaluation.metrics import bootstrap_interval, first_hit_by_distance
from whence.evaluation.protocol import metric_ground
from whence.models.descriptor import DescriptorModel
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.studies.arms import SEMANTIC, WATCHED
from whence.studies.benchmark_runs import trained_model
from whence.studies.frame import Run, Settings, Value
from whence.training.options.labelled import LabelledOptions
from whence.training.recipe import Recipe, override

_RADIUS_M = 25.0
_NUM_SEEN = 100
"""Photos whose attention is looked at."""


def measure_semantic(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls across weathers after a training, and what its attention looks at."""
    recipe = semantic_recipe(run, options)
    model, seconds = trained_model(recipe, run, options, work)
    data = read_labelled_set(str(options["test"]))
    hits = _hits(model, data)
    weathers = np.array([Path(path).parts[0] for path in data.set.queries.paths])
    by_weather = [float(hits[weathers == one].mean()) for one in np.unique(weathers)]
    found = {"recall@1": _value(hits.astype(float)), "worst weather": Value(min(by_weather))}
    file = _kept(work, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        np.save(out, hits)
    other = _kept(work, {**run, "arm": "neither"})
    if run["arm"] != "neither" and other.is_file():
        found["difference"] = _value(hits.astype(float) - np.load(other))
    shares = attention_by_class(model, data)
    found |= {
        f"attention, {name}": Value(share) for name, share in shares.items() if name in WATCHED
    }
    if set(WATCHED) <= set(shares):
        is_so = (
            shares["building"] > 1 and max(shares["sky"], shares["vehicle"], shares["person"]) < 1
        )
        found["claim"] = Value(1.0 if is_so else -1.0)
    return found | {"training": Value(seconds)}


def semantic_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm. Raises `BadOption` where the recipe does not learn from labelled
    photos."""
    recipe = override(get_recipe(str(options["recipe"])), str(options["changes"]).split())
    if not any(isinstance(branch, LabelledOptions) for branch in recipe.branches):
        raise BadOption(
            f"the recipe {recipe.name} does not learn from labelled photos; name another with "
            "recipe=NAME"
        )
    changes = [
        *SEMANTIC[str(run["arm"])],
        f"aggregator.options.mode={run['mode']}",
        f"loop.seed={run['seed']}",
    ]
    if options["target"]:
        changes.append(f"target={options['target']}")
    return override(recipe, changes)


def attention_by_class(model: DescriptorModel, data: LabelledSet) -> dict[str, float]:
    """Weights of the pixels of each class, over the mean of their photo, in database photos;
    nothing without attention."""
    descriptor = model.descriptor
    from whence.models.network_descriptor import NetworkDescriptor

    assert isinstance(descriptor, NetworkDescriptor)
    totals, counts = np.zeros(len(IDDA_CLASSES)), np.zeros(len(IDDA_CLASSES))
    rows = np.linspace(
        0, len(data.database_labels) - 1, min(_NUM_SEEN, len(data.database_labels))
    ).astype(int)
    for row in rows.tolist():
        photo = model.read(data.set.database.file(row))
        weights = descriptor.attention(photo)
        if weights is None:
            return {}
        classes = read_classes(
            data.database_labels[row], size_px=(weights.shape[1], weights.shape[0])
        )
        for number in range(len(IDDA_CLASSES)):
            inside = classes == number
            totals[number] += (weights[inside] / weights.mean()).sum()
            counts[number] += inside.sum()
    return {name: float(totals[k] / counts[k]) for k, name in enumerate(IDDA_CLASSES) if counts[k]}


def _hits(model: DescriptorModel, data: LabelledSet) -> np.ndarray:
    """(Q,) bool: whether the first answer is right."""
    database, queries = data.set.database, data.set.queries
    rows, asked = (
        model.describe([photos.file(row) for row in range(len(photos))])
        for photos in (database, queries)
    )
    ground = metric_ground(database, queries)
    first = (asked @ rows.T).argmax(axis=1)[:, None]
    return np.asarray(
        first_hit_by_distance(first, ground.database, ground.queries, thresholds_m=[_RADIUS_M])[0]
        == 0
    )


def _value(values: np.ndarray) -> Value:
    return Value(float(values.mean()), *bootstrap_interval(values))


def _kept(work: Path, run: Settings) -> Path:
    return work / "hits" / f"{Run(run).key}.npy"
