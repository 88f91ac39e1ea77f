"""How the runs of MeshVPR's study are measured: copies aligned on pairs, databases of photos and
of renders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet, read_folders
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import BadOption, MissingExtra
from whence.evaluation.metrics import bootstrap_interval, first_hit_by_distance
from whence.evaluation.protocol import metric_ground
from whence.models.descriptor import DescriptorModel, load_model
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.studies.arms import COPY, COPY_TWICE, MESH, PHOTOS, PLAIN_MODEL, other_renders
from whence.studies.frame import Run, Settings, Value
from whence.training.options.aligned import AlignedCopyOptions
from whence.training.recipe import Recipe, override

_RADII_M = (25.0, 100.0)
_AT = 5


def measure_mesh(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls of one database and way of describing it, and how much of the gap to photos an
    aligned copy recovers."""
    recipe = _recipe(run, options)
    assert isinstance(recipe.learner, AlignedCopyOptions)
    asking = load_model(recipe.learner.model)
    stored, seconds = asking, 0.0
    if run["model"] != PLAIN_MODEL:
        stored, seconds = _aligned(recipe, run, options, work)
        asking = stored if run["model"] == COPY_TWICE else stored.query_model
    data = _set(run, options)
    first, cosine = (
        _asked(stored, asking, data),
        _cosine(stored, load_model(recipe.learner.model), data, options),
    )
    hits = {radius: first[row] == 0 for row, radius in enumerate(_RADII_M)}
    found = {f"recall@1, {radius:.0f} m": _value(right) for radius, right in hits.items()}
    found["recall@5, 100 m"] = _value(first[1] < _AT)
    _keep(work, run, first)
    found |= {"cosine": Value(cosine), "training": Value(seconds)}
    if run["model"] == PLAIN_MODEL:
        return found
    return found | recovered(run, work, hits)


def recovered(run: Settings, work: Path, hits: dict[float, np.ndarray]) -> dict[str, Value]:
    """The gain of a copy over renders by the model as it is, as a share of the gap to photos too,
    and whether that is half of it."""
    files = [
        _file(work, {**run, "database": base, "model": PLAIN_MODEL, "pairs": 0, "seed": 0})
        for base in _bases(run)
    ]
    if not all(file.is_file() for file in files):
        return {}
    found = {}
    photos, plain = (np.load(file) for file in files)
    for row, radius in enumerate(_RADII_M):
        better, gap = (
            right.astype(float) - (plain[row] == 0) for right in (hits[radius], photos[row] == 0)
        )
        found[f"difference, {radius:.0f} m"] = Value(
            float(better.mean()), *bootstrap_interval(better)
        )
        if gap.mean() > 0:
            found[f"recovered, {radius:.0f} m"] = Value(float(better.mean() / gap.mean()))
    share = found.get("recovered, 100 m")
    if share is not None and run["model"] == COPY:
        found["claim"] = Value(1.0 if share.value >= 0.5 else -1.0)
    return found


def _bases(run: Settings) -> tuple[str, str]:
    return PHOTOS, str(run["database"])


def _recipe(run: Settings, options: Settings) -> Recipe:
    recipe = override(get_recipe(str(options["recipe"])), str(options["changes"]).split())
    if not isinstance(recipe.learner, AlignedCopyOptions):
        raise BadOption(f"the recipe {recipe.name} aligns no copy; name another with recipe=NAME")
    return override(recipe, [f"num_pairs={run['pairs']}", f"loop.seed={run['seed']}"])


def _aligned(
    recipe: Recipe, run: Settings, options: Settings, work: Path
) -> tuple[DescriptorModel, float]:
    """The copy of a training in the work folder, which goes on where it was stopped, and seconds of
    this process."""
    try:
        from whence.training.loop import FINAL
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    out = work / "trainings" / Run({"pairs": run["pairs"], "seed": run["seed"]}).key
    file = out / FINAL
    seconds = 0.0
    if not file.is_file():
        done = train(
            recipe,
            str(options["data"]),
            split="train",
            out=out,
            pixels_folder=work / "pixels",
            is_resumed=(out / "recipe.json").is_file(),
            show_progress=False,
        )
        seconds = done.seconds
    return load_model(str(file)), seconds


def _set(run: Settings, options: Settings) -> EvaluationSet:
    """The test queries, with the database that a run is about."""
    root, name = str(options["data"]), str(run["database"])
    if name in (PHOTOS, MESH):
        return _test_set(root, "real_database" if name == PHOTOS else "synt_database")
    folder = Path(other_renders(options)[name.removeprefix(f"{MESH}, ")])
    photos = _test_set(root, "synt_database")
    return EvaluationSet(photos.name, scan_photos(folder, show_progress=False), photos.queries)


def _test_set(root: str, database: str) -> EvaluationSet:
    return read_folders(root, database_folder=f"test/{database}", queries_folder="test/queries")


def _described(model: DescriptorModel, photos: Photos) -> np.ndarray:
    return model.describe([photos.file(row) for row in range(len(photos))])


def _asked(stored: DescriptorModel, asking: DescriptorModel, data: EvaluationSet) -> np.ndarray:
    """(2, Q) rank of the first photo within each radius of a query, of the first 20; 20 for
    none."""
    rows, wanted = _described(stored, data.database), _described(asking, data.queries)
    order = np.argsort(-wanted @ rows.T, axis=1, kind="stable")[:, :20]
    ground = metric_ground(data.database, data.queries)
    return first_hit_by_distance(
        order, ground.database, ground.queries, thresholds_m=list(_RADII_M)
    )


def _cosine(
    stored: DescriptorModel, model: DescriptorModel, data: EvaluationSet, options: Settings
) -> float:
    """Mean cosine of what is said of up to 200 database views, and of the photos of the same views
    by the model."""
    photos = _test_set(str(options["data"]), "real_database").database
    by_place = {
        (plane, heading): row
        for row, (plane, heading) in enumerate((one.plane, one.heading_deg) for one in photos)
    }
    pairs = [
        (row, by_place[one.plane, one.heading_deg])
        for row, one in enumerate(data.database)
        if (one.plane, one.heading_deg) in by_place
    ]
    if not pairs:
        return float("nan")
    chosen = np.array(pairs)[np.linspace(0, len(pairs) - 1, min(200, len(pairs))).astype(int)]
    ours, theirs = (
        _described(one, part.select(chosen[:, side]))
        for side, (one, part) in enumerate(((stored, data.database), (model, photos)))
    )
    return float((ours * theirs).sum(axis=1).mean())


def _value(right: np.ndarray) -> Value:
    return Value(float(right.mean()), *bootstrap_interval(right.astype(float)))


def _keep(work: Path, run: Settings, first: np.ndarray) -> None:
    file = _file(work, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        np.save(out, first)


def _file(work: Path, run: Settings) -> Path:
    return work / "ranks" / f"{Run(run).key}.npy"
