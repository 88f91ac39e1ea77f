"""How the runs of the study of sequences are measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.drives import SequenceSet
from whence.data.frame_folders import open_sequences
from whence.errors import MissingExtra, UnreadableImage
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.sequence_recall import (
    MATCHING,
    SequenceEvaluation,
    SequenceRules,
    evaluate_sequences,
)
from whence.index.alignment import match_sequences, search_by_distance
from whence.models.asking import QueryViews
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.recipes import get_recipe
from whence.runtime import atomic_write, random_stream
from whence.studies.benchmark_runs import trained_weights
from whence.studies.frame import Run, Settings, Value
from whence.studies.sequence_arms import ARMS, ASIDE, GAP_EVERY, JOINT, ONE
from whence.training.recipe import Recipe, override
from whence.types import PhotoSource

_FACTORS = (4, 16)
_NUM_TIMED = 20
_SHARES = 61


def measure_sequences(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls of a method at a length, what it takes, and how its search grows."""
    method, length = str(run["method"]), int(run["length"])
    data = open_sequences(
        str(options["aside" if run["drive"] == ASIDE else "data"]),
        database_folder=str(options["database_folder"]) or None,
        queries_folder=str(options["queries_folder"]) or None,
    )
    is_trained, seconds = method in ARMS or method in JOINT, None
    if is_trained:
        model, seconds = trained(run, options, work)
    else:
        model = KeptModel(str(options["model"]), data, work)
    frames = int(options["frames"])
    rules = SequenceRules(
        length=length,
        pool="own" if is_trained else "mean" if method == ONE else method,
        radius_m=float(options["radius"]),
        tolerance_frames=None if frames < 0 else frames,
        is_reversed=run["drive"] == "reversed",
        speed=2 if run["drive"] == "double speed" else 1,
        recall_at=(1, 5),
    )
    if run["drive"] == "gaps":
        data = with_gaps(data)
    found = evaluate_sequences(model, data, rules=rules, show_progress=False)
    values = _recalls(found) | {
        "size": Value(float(found.descriptor_bytes)),
        "time": Value(found.ms_per_query),
    }
    for factor in _FACTORS:
        values[f"search in {factor} times"] = Value(_search_ms(found, factor=factor))
    return values if seconds is None else values | {"training": Value(seconds)}


class KeptModel(DescriptorModel):
    """A model of photos that is fitted on a set, and describes each of its frames, once for all
    runs of a study."""

    def __init__(self, name: str, data: SequenceSet, work: Path) -> None:
        """What is kept lies in the work folder, by the files' names and the model."""
        made = load_model(name)
        super().__init__(made.card, made.descriptor, options=made.options)
        self._folder = work / "frames"
        self._folder.mkdir(parents=True, exist_ok=True)
        files = [data.database.photos.file(row) for row in range(len(data.database.photos))]
        state = self._file("state", files).with_suffix(".npz")
        if not self.is_fitted and state.is_file():
            with np.load(state, allow_pickle=False) as arrays:
                self.descriptor.load_state(dict(arrays))
        elif not self.is_fitted:
            self.prepare(files)
            with atomic_write(state) as out:
                np.savez(out, **self.descriptor.state())  # type: ignore[arg-type]

    def _file(self, what: str, sources: Sequence[PhotoSource]) -> Path:
        said = "|".join([self.card.card_id, *map(str, sources)])
        return (
            self._folder / f"{what}-{hashlib.blake2b(said.encode(), digest_size=8).hexdigest()}.npy"
        )

    def describe_each(
        self,
        sources: Iterable[PhotoSource],
        *,
        keep_local: bool = False,
        views: QueryViews | None = None,
    ) -> Iterator[Described | UnreadableImage]:
        """As of the base; where all of the frames can be read their descriptors are kept."""
        sources = list(sources)
        file = self._file("described", sources)
        if keep_local or views is not None or not file.is_file():
            found = list(super().describe_each(sources, keep_local=keep_local, views=views))
            if views is None and all(isinstance(one, Described) for one in found):
                with atomic_write(file) as out:
                    np.save(
                        out,
                        np.stack([one.descriptor for one in found if isinstance(one, Described)]),
                    )
            return iter(found)
        return (Described(row) for row in np.load(file))


def _recalls(evaluation: SequenceEvaluation) -> dict[str, Value]:
    counted = evaluation.has_positives
    values = {"queries": Value(float(counted.sum()))}
    for n in (1, 5):
        hits = (evaluation.first_hit[counted] < n).astype(float)
        values[f"recall@{n}"] = Value(
            float(hits.mean()), *bootstrap_interval(hits, groups=evaluation.drive[counted])
        )
    return values


def _search_ms(evaluation: SequenceEvaluation, *, factor: int) -> float:
    """Milliseconds a query of a search in so many times the database, of random numbers of the same
    size."""
    random, num, length = (
        random_stream(0, factor),
        factor * evaluation.num_database,
        evaluation.rules.length,
    )
    if evaluation.rules.pool == MATCHING:
        distances = random.random((_NUM_TIMED + length, num), np.float32)
        windows = np.arange(_NUM_TIMED)[:, None] + np.arange(length)
        started = time.perf_counter()
        match_sequences(distances, windows, np.zeros(num), speeds=evaluation.rules.speeds, k=5)
    else:
        dim = evaluation.descriptor_bytes // 4
        stored, asked = (
            random.random((num, dim), np.float32),
            random.random((_NUM_TIMED, dim), np.float32),
        )
        started = time.perf_counter()
        search_by_distance(stored, asked, k=5)
    return 1e3 * (time.perf_counter() - started) / _NUM_TIMED


def sequence_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm; without images, the joint recipe's branch of classes is idle."""
    method = str(run["method"])
    changes = [*str(options["changes"]).split(), f"sequence.length={options['trained_length']}"]
    if method in JOINT:
        recipe = override(get_recipe(str(options["joint_recipe"])), changes)
        branches = (
            recipe.branches
            if method == JOINT[1]
            else tuple(one for one in recipe.branches if one.kind == "sequences")
        )
        return replace(recipe, branches=branches)
    return override(get_recipe(str(options["recipe"])), [*changes, *ARMS[method]])


def with_gaps(sequences: SequenceSet) -> SequenceSet:
    """The set without every so-many-th frame of its query drives."""
    return replace(
        sequences,
        queries=sequences.queries.select(
            np.flatnonzero(sequences.queries.frame % GAP_EVERY != GAP_EVERY // 2)
        ),
    )


def drives_to_train_on(sequences: SequenceSet, *, share: int) -> SequenceSet:
    """The set with so many per cent of its query drives, at least one, drawn; a larger share holds
    the smaller ones."""
    keys = np.unique(sequences.queries.sequence)
    order = random_stream(_SHARES).permutation(len(keys))
    chosen = keys[order[: max(1, round(len(keys) * share / 100))]]
    return replace(
        sequences,
        queries=sequences.queries.select(
            np.flatnonzero(np.isin(sequences.queries.sequence, chosen))
        ),
    )


def trained(run: Settings, options: Settings, work: Path) -> tuple[DescriptorModel, float]:
    """The model of a training in the work folder, which goes on where it was stopped, and seconds
    of this process."""
    try:
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    recipe = sequence_recipe(run, options)
    out = work / "trainings" / Run({"method": run["method"], "share": run["share"]}).key
    drives = drives_to_train_on(open_sequences(str(options["train"])), share=int(run["share"]))
    images = str(options["images"]) or drives.database.photos
    done = train(
        recipe,
        {"sequences": drives, "classes": images},
        out=out,
        pixels_folder=work / "pixels",
        is_resumed=(out / "recipe.json").is_file(),
        show_progress=False,
    )
    return load_model(str(trained_weights({"val": ""}, out))), done.seconds
