"""Mined tuples: against a slow oracle, by their properties, and learned from by recipes that
resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from hypothesis import given, settings
from hypothesis import strategies as st

from two_processes import Calm, run_in_two
from whence import cli
from whence.data.formats import EvaluationSet, read_folders
from whence.data.names import format_name
from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos, UnknownName
from whence.lists import NeighborLists, select_runs
from whence.models.aggregators.words import NetVlad
from whence.models.networks import Network
from whence.recipes import get_recipe
from whence.training.branches.mining import Drawn, Miner
from whence.training.branches.tuples import TupleSet, make_tuple_set, msls_weights
from whence.training.checkpoints import newest_checkpoint, read_checkpoint
from whence.training.learners import make_network
from whence.training.loop import FINAL
from whence.training.losses.tuples import tuple_loss
from whence.training.options.tuples import MiningOptions
from whence.training.recipe import Recipe, override
from whence.training.record import read_log
from whence.training.step import Step
from whence.training.train import make_task, train
from whence.types import Photo, PlanePoint

MININGS = ("random", "partial", "full", "msls_weighted")


def photos_at(points: np.ndarray, *, notes: list[str] | None = None) -> Photos:
    records = []
    for number, (east, north) in enumerate(points):
        plane = PlanePoint(float(east), float(north), "32V")
        note = "" if notes is None else notes[number]
        records.append(
            Photo(
                path=f"{number}" + format_name(plane=plane, note=note),
                content=f"{number}",
                plane=plane,
            )
        )
    return Photos.of(records)


def made_set(
    seed: int, *, num_database: int = 40, num_queries: int = 15, side_m: float = 120.0
) -> EvaluationSet:
    random = np.random.default_rng(seed)
    notes = [
        ["day_forward", "night_sideways", "night", "day_sideways"][k % 4]
        for k in range(num_queries)
    ]
    database, queries = (
        random.uniform(0, side_m, (num, 2)) + 500_000 for num in (num_database, num_queries)
    )
    return EvaluationSet("made", photos_at(database), photos_at(queries, notes=notes))


def described(tuples: TupleSet, *, seed: int, dim: int = 6) -> np.ndarray:
    total = tuples.num_database + len(tuples.data.queries)
    return np.random.default_rng([seed, 1]).standard_normal((total, dim)).astype(np.float32)


def candidates_of(drawn: Drawn) -> list[np.ndarray]:
    """The candidates of each query; of random mining what is drawn."""
    if drawn.negatives is not None:
        return list(drawn.negatives)
    assert drawn.candidates is not None
    lists = drawn.candidates.lists()
    return [lists.of(number) for number in range(len(drawn.queries))]


def slow_nearest(descriptors: np.ndarray, asked: int, rows: np.ndarray, k: int) -> list[int]:
    """By distance, one photo after another."""
    distances = [
        (float(np.linalg.norm(descriptors[row].astype(float) - descriptors[asked])), int(row))
        for row in rows
    ]
    return [row for _, row in sorted(distances)[:k]]


def slow_lists(data: EvaluationSet, radius_m: float) -> list[list[int]]:
    found = []
    for q in range(len(data.queries)):
        near = []
        for row in range(len(data.database)):
            gap = np.hypot(
                data.database.east_m[row] - data.queries.east_m[q],
                data.database.north_m[row] - data.queries.north_m[q],
            )
            if gap <= radius_m:
                near.append(row)
        found.append(near)
    return found


@pytest.mark.parametrize("name", MININGS)
@pytest.mark.parametrize("max_bytes", [1, 10**9])
def test_mining_is_the_slow_oracle(name: str, max_bytes: int) -> None:
    """Three refreshes; the candidates are those drawn, everything else is done again in loops.
    Chunks change nothing."""
    data = made_set(3)
    options = MiningOptions(
        name,
        num_queries=9,
        num_negatives=4,
        num_candidates=12,
        positive_m=25,
        excluded_m=40,
        batch_size=5,
        max_bytes=max_bytes,
    )
    tuples = make_tuple_set(data, options=options)
    hard, soft = slow_lists(data, 25), slow_lists(data, 40)
    assert tuples.queries.tolist() == [q for q in range(len(hard)) if hard[q]]
    miner, known = Miner(tuples, options=options, seed=7), {}
    num_database = len(data.database)
    for refresh in range(3):
        descriptors = described(tuples, seed=refresh)
        asked: list[int] = []

        def describe(
            rows: np.ndarray, descriptors: np.ndarray = descriptors, asked: list[int] = asked
        ) -> torch.Tensor:
            asked.extend(rows.tolist())
            return torch.from_numpy(descriptors[rows])

        drawn = miner.draw(refresh)
        lists = candidates_of(drawn)
        mined = miner.mine(refresh, describe)
        assert len(set(asked)) == len(asked), "every photo is described once"
        assert mined.shape == (9, 6)
        expected = []
        for number, query in enumerate(drawn.queries):
            q = int(tuples.queries[query])
            (best,) = slow_nearest(descriptors, num_database + q, np.array(hard[q]), 1)
            candidates = lists[number]
            assert not set(candidates.tolist()) & set(soft[q])
            assert set(known.get(q, [])) <= set(candidates.tolist())
            negatives = candidates.tolist()
            if name != "random":
                negatives = slow_nearest(descriptors, num_database + q, candidates, 4)
            if name == "full":
                known[q] = negatives
            expected.append([q, best, *negatives])
        assert mined.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(MININGS),
    num_queries=st.integers(1, 30),
    num_negatives=st.integers(1, 6),
    num_candidates=st.integers(1, 60),
)
def test_drawn_candidates_are_what_mining_may_take(
    seed: int, name: str, num_queries: int, num_negatives: int, num_candidates: int
) -> None:
    """Whatever the sizes: no query twice, enough candidates, none twice, none excluded; the same
    again for the same refresh."""
    data = made_set(seed)
    options = MiningOptions(
        name, num_queries, num_negatives, num_candidates, positive_m=30, excluded_m=45
    )
    tuples = make_tuple_set(data, options=options)
    miner = Miner(tuples, options=options, seed=seed)
    descriptors = described(tuples, seed=seed)
    for refresh in range(2):
        drawn, again = miner.draw(refresh), miner.draw(refresh)
        assert np.array_equal(drawn.queries, again.queries)
        lists = candidates_of(drawn)
        assert all(map(np.array_equal, lists, candidates_of(again)))
        assert (
            len(set(drawn.queries.tolist()))
            == len(drawn.queries)
            == min(num_queries, len(tuples.queries))
        )
        for number, query in enumerate(drawn.queries):
            rows = lists[number]
            assert len(np.unique(rows)) == len(rows) >= num_negatives
            assert not np.isin(rows, tuples.excluded.of(int(query))).any()
            if name == "random":
                assert len(rows) == num_negatives
        mined = miner.mine(refresh, lambda rows: torch.from_numpy(descriptors[rows]))
        assert (mined[:, 0] == tuples.queries[drawn.queries]).all()


def test_partial_mining_shares_one_pool() -> None:
    options = MiningOptions(
        "partial", num_queries=8, num_negatives=2, num_candidates=10, positive_m=30, excluded_m=40
    )
    miner = Miner(make_tuple_set(made_set(1), options=options), options=options)
    first, second = (
        set(np.concatenate(candidates_of(miner.draw(refresh))).tolist()) for refresh in (0, 1)
    )
    assert len(first) <= 10
    assert first != second


def test_full_mining_gets_no_easier() -> None:
    """With descriptors that stay, the negatives kept and new ones together are never farther than
    before."""
    options = MiningOptions(
        "full", num_queries=50, num_negatives=3, num_candidates=5, positive_m=30, excluded_m=40
    )
    tuples = make_tuple_set(made_set(2), options=options)
    descriptors = described(tuples, seed=0)
    miner, before = Miner(tuples, options=options), {}
    for refresh in range(6):
        for row in miner.mine(refresh, lambda rows: torch.from_numpy(descriptors[rows])):
            gaps = np.linalg.norm(
                descriptors[row[2:]] - descriptors[tuples.num_database + row[0]], axis=1
            )
            assert (gaps <= before.get(row[0], np.full(3, np.inf)) + 1e-6).all()
            before[row[0]] = gaps
    # After so many draws the nearest of all are found for most.
    assert len(before) == len(tuples.queries)


@pytest.mark.parametrize("scope_m", [30.0, 60.0, 1e6])
def test_negatives_lie_within_the_scope(scope_m: float) -> None:
    """Or are the nearest ones of queries that have too few there."""
    data = made_set(4)
    options = MiningOptions(
        "partial", num_negatives=4, num_candidates=40, positive_m=20, excluded_m=25, scope_m=scope_m
    )
    tuples = make_tuple_set(data, options=options)
    plain = make_tuple_set(data, options=replace(options, scope_m=0))
    assert np.array_equal(tuples.queries, plain.queries)
    assert np.array_equal(tuples.positives.members, plain.positives.members)
    database, queries = (
        np.stack([side.east_m, side.north_m], axis=1) for side in (data.database, data.queries)
    )
    for number, query in enumerate(tuples.queries):
        apart = np.linalg.norm(database - queries[query], axis=1)
        free = np.setdiff1d(np.arange(40), tuples.excluded.of(number))
        others = sorted(row for row in range(40) if row not in plain.excluded.of(number))
        inside = [row for row in others if apart[row] <= scope_m]
        expected = (
            inside if len(inside) >= 4 else sorted(sorted(others, key=lambda row: apart[row])[:4])
        )
        assert free.tolist() == expected
    listed = EvaluationSet("listed", data.database, data.queries, positives=plain.positives)
    with pytest.raises(BadOption, match="lists its positives"):
        make_tuple_set(listed, options=options)
    with pytest.raises(BadOption, match="there are no negatives"):
        MiningOptions(scope_m=25)


def test_weights_of_rare_queries() -> None:
    """1 + Q / #night by night + Q / #sideways to the side, divided by the sum: 6 queries, 2 by
    night, 3 sideways."""
    is_night = np.array([True, True, False, False, False, False])
    is_sideways = np.array([True, False, True, True, False, False])
    expected = np.array([1 + 3 + 2, 1 + 3, 1 + 2, 1 + 2, 1, 1])
    assert msls_weights(is_night=is_night, is_sideways=is_sideways) == pytest.approx(
        expected / expected.sum()
    )
    none = np.zeros(4, bool)
    assert msls_weights(is_night=none, is_sideways=none) == pytest.approx(np.full(4, 0.25))
    tuples = make_tuple_set(made_set(3), options=MiningOptions(positive_m=40, excluded_m=40))
    rare = tuples.weights[tuples.queries % 4 == 1]
    assert (rare > tuples.weights[tuples.queries % 4 == 0].max()).all()


def test_listed_positives_and_notes_of_a_set() -> None:
    data = made_set(1, num_queries=3)
    lists = NeighborLists(np.array([0, 2, 2, 3]), np.array([1, 4, 7]))
    tuples = make_tuple_set(
        replace(data, positives=lists, notes=("night", "", "")),
        options=MiningOptions(num_negatives=5),
    )
    assert tuples.queries.tolist() == [0, 2]
    assert [tuples.positives.of(q).tolist() for q in range(2)] == [[1, 4], [7]]
    assert tuples.weights[0] > tuples.weights[1]
    chosen = select_runs(lists, np.array([2, 0]))
    assert [chosen.of(q).tolist() for q in range(2)] == [[7], [1, 4]]


def test_what_cannot_be_mined_is_said() -> None:
    with pytest.raises(NoPhotos, match="positive_m"):
        make_tuple_set(made_set(1), options=MiningOptions(positive_m=1e-6))
    with pytest.raises(BadOption, match="leaves no 38 negatives"):
        make_tuple_set(
            made_set(1), options=MiningOptions(num_negatives=38, positive_m=60, excluded_m=60)
        )
    with pytest.raises(UnknownName, match="triplet"):
        tuple_loss("triplets", *[torch.zeros(1, 2)] * 2, torch.zeros(1, 1, 2), margin=0.1)


def test_both_forms_of_the_triplet_loss() -> None:
    random = np.random.default_rng(0)
    q, p, n = (
        random.standard_normal(shape).astype(np.float32) for shape in ((3, 5), (3, 5), (3, 4, 5))
    )
    plain, squared = [], []
    for i in range(3):
        for j in range(4):
            near, far = np.linalg.norm(q[i] - p[i]), np.linalg.norm(q[i] - n[i, j])
            plain.append(max(near - far + 0.1, 0))
            squared.append(max(near**2 - far**2 + 0.1, 0))
    given = [torch.from_numpy(part) for part in (q, p, n)]
    assert float(tuple_loss("triplet", *given, margin=0.1)) == pytest.approx(
        np.mean(plain), rel=1e-4
    )
    assert float(tuple_loss("triplet_squared", *given, margin=0.1)) == pytest.approx(
        np.mean(squared), rel=1e-5
    )


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(newest_checkpoint(folder / "checkpoints") or "").tensors


CHANGES = {
    "partial": ["mining.name=partial", "augment.brightness=0.2", "augment.flip_share=0.5"],
    "full": ["mining.name=full", "loss.name=sare_joint", "loop.ema_decay=0.9"],
    "random": ["mining.name=random", "loss.name=sare_ind", "loop.accumulate=2"],
    "netvlad": [
        "mining.name=msls_weighted",
        "loss.name=triplet_squared",
        "aggregator.name=netvlad",
        "augment.stored_width=80",
        "augment.stored_height=60",
    ],
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_tuples_are_learned_from_and_resumed(
    changes: list[str], world: Path, tmp_path: Path
) -> None:
    """Stopped in the middle of a refresh, a training goes on with the same tuples and ends with the
    same weights."""
    more = ["loop.num_steps=7", "loop.save_every=3", "loop.log_every=1", "optimizer.lr=0.01"]
    aggregator = {"aggregator.name=netvlad"} & set(changes)
    recipe = get_recipe("tiny-tuples")
    assert recipe.branches[0].kind == "tuples"
    if aggregator:
        more.append("aggregator.options={num_words = 4}")
    recipe = override(recipe, [*changes, *more])
    assert Recipe.from_json(recipe.to_json()) == recipe
    data = read_folders(world)
    for name in ("whole", "parts"):
        done = train(
            recipe, data, out=tmp_path / name, validation=data, pixels_folder=tmp_path / "pixels"
        )
    assert done.num_steps == 7
    assert done.mining_share > 0
    assert done.best_recall is not None
    (tmp_path / "parts" / "checkpoints" / "step-0000007.safetensors").unlink()
    train(
        recipe,
        data,
        out=tmp_path / "parts",
        validation=data,
        pixels_folder=tmp_path / "pixels",
        is_resumed=True,
    )
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert len(whole["branches.0.state.tuples"]) == 8
    losses = [
        [line["loss"] for line in read_log(tmp_path / part / "log.jsonl") if "loss" in line]
        for part in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 7


def test_two_processes_share_the_tuples(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main process mines for both; weights and tuples are those of one process, after a stop
    within a refresh too."""
    changes = (
        "mining.name=full",
        "optimizer.name=sgd",
        "optimizer.lr=0.02",
        "loop.log_every=1",
        "loop.save_every=3",
    )
    more = [word for change in changes for word in ("--set", change)]
    shared = [
        "train",
        "tiny-tuples",
        "--dataset",
        str(world),
        "--cache",
        str(tmp_path / "pixels"),
        "-q",
        *more,
    ]
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn, "BatchNorm2d", Calm)
        assert cli.run([*shared, "--out", str(tmp_path / "one")]) == 0
    run_in_two([*shared, "--out", str(tmp_path / "two")], tmp_path)
    (tmp_path / "two" / "checkpoints" / "step-0000006.safetensors").unlink()
    run_in_two([*shared, "--out", str(tmp_path / "two"), "--resume"], tmp_path)
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert torch.equal(one["branches.0.state.tuples"], two["branches.0.state.tuples"])
    losses = [
        [line["loss"] for line in read_log(tmp_path / name / "log.jsonl") if "loss" in line]
        for name in ("one", "two")
    ]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    start = make_network(override(get_recipe("tiny-tuples"), list(changes)).learner).state_dict()
    ends = [read_checkpoint(tmp_path / name / FINAL).tensors for name in ("one", "two")]
    moved = max(float((value - start[name]).abs().max()) for name, value in ends[0].items())
    apart = max(float((value - ends[1][name]).abs().max()) for name, value in ends[0].items())
    assert moved > 1e-4
    assert apart < 1e-2 * moved


def test_a_training_on_tuples_lowers_its_loss(world: Path, tmp_path: Path) -> None:
    changes = [
        "mining.name=random",
        "mining.num_queries=4",
        "batch_queries=4",
        "loop.num_steps=16",
        "loop.log_every=1",
    ]
    recipe = override(get_recipe("tiny-tuples"), [*changes, "optimizer.lr=0.003"])
    train(recipe, read_folders(world), out=tmp_path / "run", pixels_folder=tmp_path / "pixels")
    losses = [line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_netvlad_begins_at_the_words_of_a_gem_checkpoint(world: Path, tmp_path: Path) -> None:
    """The backbone is the checkpoint's, the words are the k-means of its local descriptors,
    assigned as sharply as these allow."""
    data = read_folders(world)
    gem = override(get_recipe("tiny-tuples"), ["loop.num_steps=2"])
    train(gem, data, out=tmp_path / "gem", pixels_folder=tmp_path / "pixels")
    start = str(tmp_path / "gem" / "final.safetensors")
    recipe = override(
        get_recipe("tiny-tuples"),
        ["aggregator.name=netvlad", f"start_from={start}", "start_with=backbone"],
    )
    recipe = override(recipe, ["aggregator.options={num_words = 4}"])
    step = Step(
        make_task(recipe, data, pixels_folder=tmp_path / "pixels", show_progress=False),
        options=recipe.loop,
    )
    step.open()
    network = step.learner
    assert isinstance(network, Network)
    held = read_checkpoint(start).tensors
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, held[f"backbone.{name}"])
    words = network.aggregator
    assert isinstance(words, NetVlad)
    directions = torch.nn.functional.normalize(words.centroids.detach(), dim=1)
    weights = words.conv.weight.detach()[:, :, 0, 0]
    sharpness = weights.norm(dim=1)
    assert torch.allclose(weights, sharpness[:, None] * directions, atol=1e-4)
    assert torch.allclose(sharpness, sharpness[:1].expand(4), rtol=1e-4)
    assert float(words.centroids.detach().norm(dim=1).max()) <= 1 + 1e-5
    with pytest.raises(BadOption, match="another backbone"):
        make_network(override(recipe, ["backbone=resnet18conv3"]).learner)


def test_the_command_trains_on_tuples(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "tiny-tuples",
        "--dataset",
        str(world),
        "--out",
        str(tmp_path / "run"),
        "--set",
        "loop.num_steps=2",
        "--json",
    ]
    assert cli.run(words) == 0
    assert json.loads(capsys.readouterr().out)["num_steps"] == 2
    assert cli.run(["train", "tiny-tuples", "--dry-run", "--dataset", str(world), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["num_queries"] == 20
    assert cli.run([*words[:-1], "--resume", "--set", "batch_queries=50"]) == 1
    assert "batch_queries" in capsys.readouterr().err
