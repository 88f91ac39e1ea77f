"""The map as teacher: the head of the network that comes with Whence learns a database's photos,
and is tried on others of it.

After "The Overlooked Value of Test-time Reference Sets in Visual Place Recognition" (2025), which
fine-tunes on the database before a query is asked. Photos near each other that look the same way
belong together; a photo without a position belongs together with itself, changed. Nothing of the
database changes unless photos that were held out are placed better.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.evaluation.metrics import bootstrap_interval
from whence.geo import heading_difference_deg, neighbors_within
from whence.index.store import Store
from whence.lists import NeighborLists
from whence.localize.build import STATE_BLOB, BuildReport
from whence.localize.maintain import BEFORE_BLOB, refit_database
from whence.models.adapted import HEAD, LEARNED, PREFIX, learned_columns, network_bytes, own_network
from whence.models.backbones.lite import OwnMaps
from whence.models.descriptor import DescriptorModel, load_model, read_as
from whence.models.engines.onnx_graph import read_arrays
from whence.models.lite import OWN, packaged_prior
from whence.models.pca import Whitening, fit_half_whitening, half_whitened
from whence.models.preprocessing import normalise
from whence.registry import get_card
from whence.runtime import map_threads, progress
from whence.settings import BuildOptions
from whence.training.augment import transforms_of
from whence.training.branches.places import metric_points
from whence.training.branches.sources import make_batches
from whence.training.checkpoints import read_checkpoint
from whence.training.datasets import Dataset
from whence.training.learners import head_of
from whence.training.loop import FINAL
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import key_of
from whence.training.recipe import Recipe, override
from whence.training.train import train

MIN_PHOTOS, MOST_PHOTOS = 24, 20_000
"""Photos that a database needs, and those of a larger one that are looked at."""
HELD_OUT, MOST_HELD_OUT = 0.2, 100
"""Share of the photos that nothing is learned from, and their largest number."""
SHARES = (1.0, 0.5)
"""How far the weights go from those that came to those that were learned: the better is kept."""
RADIUS_M, MAX_TURN_DEG = 25.0, 45.0
"""What a held-out photo's neighbours are."""
_WARPS = 113


class Trial(NamedTuple):
    """What held-out photos say of an adapted head."""

    num_photos: int
    num_held_out: int
    plain: np.ndarray
    """(Q,) bool: whether a question's first answer is right before ..."""
    adapted: np.ndarray
    """... and after."""
    is_neighbour: np.ndarray
    """(Q,) bool: whether a photo asks as it is for its neighbours, else changed for its own
    place."""
    share: float
    """How far the weights went, of `SHARES`."""
    seconds: float

    @property
    def is_better(self) -> bool:
        """Whether surely more questions are answered rightly than before, by the interval, and no
        fewer of those for neighbours."""
        gains = self.adapted.astype(int) - self.plain
        return self.gain[1] > 0 and bool(gains[self.is_neighbour].sum() >= 0)

    @property
    def gain(self) -> tuple[float, float, float]:
        """By how much the share of right answers grew, with its 95 % interval."""
        gains = self.adapted.astype(float) - self.plain
        return (float(gains.mean()), *bootstrap_interval(gains))


class Adaptation(NamedTuple):
    """What `adapt_database` did."""

    trial: Trial
    report: BuildReport | None
    """Of describing the photos again; None where the database stayed as it was."""


def adapt_database(
    path: str | Path,
    recipe: Recipe,
    *,
    changes: Sequence[str] = (),
    show_progress: bool | None = None,
) -> Adaptation:
    """A trial of a database's model adapted to its own photos, which are described again, or all is
    left as it is where that makes nothing better.

    A run that was stopped goes on when it is called again. `changes` are texts such as
    "loop.num_steps=50". Raises `BadOption` for models that cannot be adapted and databases that
    were, `NoPhotos` for too few photos.
    """
    folder = Path(path)
    with Store.open(folder) as store:
        build, state = BuildOptions(**store.options["build"]), store.read_blob(STATE_BLOB)
        if build.model_options.get("adapted"):
            raise BadOption(f"{str(path)!r} is adapted already: undo that first, with --undo")
        model = load_model(build.model, options=build.model_options)
        if own_network(model.descriptor) is None or state is None:
            raise BadOption(
                f"{model.name} cannot be adapted; whence-lite0-words-960 and whence-lite0-448 can"
            )
        model.descriptor.load_state(state)
        rows, descriptor_rows = _usable(store.photos, store.descriptor_rows)
        if len(rows) < MIN_PHOTOS:
            raise NoPhotos(
                f"{str(path)!r} has {len(rows)} photos that are there; adapting needs {MIN_PHOTOS}"
            )
        photos, descriptors = (
            store.photos.select(rows),
            store.descriptors[descriptor_rows].astype(np.float32),
        )
    work = folder.with_name(folder.name + ".adapting")
    adapted, trial = adapt_model(
        photos,
        descriptors,
        model,
        recipe=recipe,
        changes=changes,
        work=work,
        show_progress=show_progress,
    )
    report = None
    if trial.is_better:
        report = refit_database(
            path, model=adapted, blobs={BEFORE_BLOB: state}, show_progress=show_progress
        )
    shutil.rmtree(work, ignore_errors=True)
    return Adaptation(trial, report)


def adapt_model(
    photos: Photos,
    descriptors: np.ndarray,
    model: DescriptorModel,
    *,
    recipe: Recipe,
    work: Path,
    changes: Sequence[str] = (),
    show_progress: bool | None = None,
) -> tuple[DescriptorModel, Trial]:
    """The model with a head that learned photos (N,), which are each another, and what those of
    them say that were held out.

    `descriptors` (N, D) are the model's own; nothing of them changes.
    """
    started = time.perf_counter()
    held_rows = held_out(photos)
    learned = photos.select(np.setdiff1d(np.arange(len(photos)), held_rows))
    recipe = override(fitted_recipe(recipe, learned), changes)
    key = hashlib.blake2b(
        f"{key_of(photos)}|{recipe.to_json()}".encode(), digest_size=6
    ).hexdigest()
    run = work / key
    train(
        recipe,
        learned,
        out=run,
        is_resumed=(run / "recipe.json").is_file(),
        show_progress=show_progress,
    )
    weights = model.options.get("weights")
    own = read_arrays(network_bytes(weights))
    tensors = read_checkpoint(run / FINAL).tensors
    taught = {
        "mix.w": tensors["aggregator.mix.weight"],
        "mix.b": tensors["aggregator.mix.bias"],
        "fc.w": tensors["aggregator.fc.weight"][:, :, None, None],
        "fc.b": tensors["aggregator.fc.bias"],
    }
    heads = [
        {name: own[name] + share * (taught[name].numpy() - own[name]) for name in HEAD}
        for share in SHARES
    ]
    look = _Look(network_bytes(weights), heads)
    files = [photos.file(row) for row in range(len(photos))]
    with progress("looking again", total=len(files), show=show_progress) as advance:
        seen = look(
            map_threads(lambda file: read_as(file, get_card(OWN).preprocessing), files), advance
        )
    changed = [
        _changed(model.read(files[row]), recipe, number)
        for number, row in enumerate(held_rows.tolist())
    ]
    seen_changed = look(read_as(image, get_card(OWN).preprocessing) for image in changed)
    queries = np.concatenate([descriptors[held_rows], model.describe(changed)])
    right, excluded, is_neighbour = _questions(photos, held_rows)
    own_columns = learned_columns(model.descriptor)
    states = [_whitening(rows, own_columns.stop - own_columns.start) for rows in seen]
    plain = queries @ descriptors.T
    kept = plain - queries[:, own_columns] @ descriptors[:, own_columns].T
    scale = float(np.linalg.norm(descriptors[:, own_columns], axis=1).max()) ** 2
    found = []
    for rows, rows_changed, state in zip(seen, seen_changed, states, strict=True):
        questions = half_whitened(np.concatenate([rows[held_rows], rows_changed]), state)
        found.append(kept + scale * questions @ half_whitened(rows, state).T)
    hits = [_hits(similarities, right, excluded) for similarities in (plain, *found)]
    best = max(range(len(SHARES)), key=lambda number: int(hits[1 + number][right.counts > 0].sum()))
    counted = right.counts > 0
    trial = Trial(
        num_photos=len(photos),
        num_held_out=len(held_rows),
        plain=hits[0][counted],
        adapted=hits[1 + best][counted],
        is_neighbour=is_neighbour[counted],
        share=SHARES[best],
        seconds=time.perf_counter() - started,
    )
    return _with_head(model, heads[best], states[best]), trial


def held_out(photos: Photos) -> np.ndarray:
    """Rows of the photos that nothing is learned from; they follow from what the photos are, not
    from their order."""
    num = min(MOST_HELD_OUT, round(HELD_OUT * len(photos)))
    order = np.argsort(photos.content, kind="stable")
    rows: np.ndarray = np.sort(order[np.linspace(0, len(photos) - 1, num).round().astype(int)])
    return rows


def fitted_recipe(recipe: Recipe, photos: Photos) -> Recipe:
    """The recipe for photos of this shape and number: at the network's own size, and with as many
    places a batch as there are."""
    branch = recipe.branches[0]
    assert isinstance(branch, PlacesOptions)
    has_size = (photos.width > 0) & (photos.height > 0)
    aspect = (
        float(np.median(photos.width[has_size] / photos.height[has_size]))
        if has_size.any()
        else 4 / 3
    )
    sides = [
        max(32, 32 * round(side / 32)) for side in (320 * min(1, aspect), 320 * min(1, 1 / aspect))
    ]
    branch = replace(branch, augment=replace(branch.augment, width=sides[0], height=sides[1]))
    while branch.batches.num_places > 2:
        try:
            make_batches(
                Dataset(photos), places=branch.places, options=branch.batches, seed=recipe.loop.seed
            )
            break
        except BadOption:
            branch = replace(
                branch, batches=replace(branch.batches, num_places=branch.batches.num_places // 2)
            )
    return replace(recipe, branches=(branch,))


def _usable(photos: Photos, descriptor_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of photos that are each another and whose files are there, at most so many, and those of
    their descriptors."""
    kept, first = np.unique(descriptor_rows, return_index=True)
    rows = first[kept >= 0]
    rows = rows[[os.path.lexists(photos.file(int(row))) for row in rows]]
    rows = np.sort(rows)
    if len(rows) > MOST_PHOTOS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_PHOTOS).round().astype(int)]
    return rows, descriptor_rows[rows]


def _questions(
    photos: Photos, test_rows: np.ndarray
) -> tuple[NeighborLists, np.ndarray, np.ndarray]:
    """What is right for each question, which photo does not count, -1 for none, and which questions
    are for neighbours.

    First every held-out photo asks as it is for those near it, itself left out; then changed, for
    itself or those near it.
    """
    ground, heading = metric_points(photos), np.nan_to_num(photos.heading_deg.astype(float))
    near = neighbors_within(ground, ground[test_rows], radius_m=RADIUS_M)
    owner = np.repeat(np.arange(len(test_rows)), near.counts)
    is_right = (
        heading_difference_deg(heading[near.members], heading[test_rows[owner]]) <= MAX_TURN_DEG
    )
    is_right &= near.members != test_rows[owner]
    owner, members = owner[is_right], near.members[is_right]
    numbers = np.concatenate(
        [owner, owner + len(test_rows), np.arange(len(test_rows)) + len(test_rows)]
    )
    rows = np.concatenate([members, members, test_rows])
    counts = np.bincount(numbers, minlength=2 * len(test_rows))
    right = NeighborLists(
        np.concatenate([[0], np.cumsum(counts)]), rows[np.argsort(numbers, kind="stable")]
    )
    return (
        right,
        np.concatenate([test_rows, np.full(len(test_rows), -1)]),
        np.arange(2 * len(test_rows)) < len(test_rows),
    )


def _hits(similarities: np.ndarray, right: NeighborLists, excluded: np.ndarray) -> np.ndarray:
    """(Q,) bool: whether the most similar photo that counts is right."""
    similarities = similarities.copy()
    asks_itself = np.flatnonzero(excluded >= 0)
    similarities[asks_itself, excluded[asks_itself]] = -np.inf
    first = similarities.argmax(axis=1)
    return np.array(
        [bool(np.isin(row, right.of(question))) for question, row in enumerate(first.tolist())],
        bool,
    )


def _changed(image: np.ndarray, recipe: Recipe, number: int) -> np.ndarray:
    """A photo (H, W, 3) as it could have been taken otherwise: changed as in training, in another
    way than any there."""
    branch = recipe.branches[0]
    assert isinstance(branch, PlacesOptions)
    steps = v2.Compose(
        transforms_of(replace(branch.augment, width=image.shape[1], height=image.shape[0]))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((_WARPS << 32) + number)
        changed: np.ndarray = (
            steps(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        )
    return np.ascontiguousarray(changed)


class _Look:
    """What several heads make of photos, whose maps are computed once."""

    def __init__(self, model: bytes, heads: Sequence[Mapping[str, np.ndarray]]) -> None:
        self.maps, self.heads = OwnMaps(model), [head_of(head).eval() for head in heads]

    def __call__(
        self, images: Iterable[np.ndarray], advance: Callable[[int], Any] = lambda number: None
    ) -> np.ndarray:
        """(H, N, E) float32 of uint8 images (H, W, 3)."""
        found = []
        with torch.inference_mode():
            for image in images:
                height, width = self.maps.size_rule.nearest(*image.shape[:2])
                pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
                features = self.maps(normalise(torch.from_numpy(pixels)[None]))
                found.append([head(features)[0].numpy() for head in self.heads])
                advance(1)
        return np.asarray(found, np.float32).transpose(1, 0, 2)


def _whitening(rows: np.ndarray, dim: int) -> Whitening:
    return fit_half_whitening(rows, dim, prior=packaged_prior(LEARNED))


def _with_head(
    model: DescriptorModel, head: Mapping[str, np.ndarray], state: Whitening
) -> DescriptorModel:
    """The model with another head and what its vectors are whitened by; all else is as the model
    has it."""
    adapted = load_model(model.name, options={**model.options, "adapted": True})
    own = {f"{LEARNED}_mean": state[0], f"{LEARNED}_axes": state[1]}
    adapted.descriptor.load_state(
        {
            **model.descriptor.state(),
            **own,
            **{f"{PREFIX}{name}": np.asarray(head[name], np.float32) for name in HEAD},
        }
    )
    return adapted
