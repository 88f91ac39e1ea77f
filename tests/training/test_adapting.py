"""A database adapted to its own photos: what is learned from, what is tried on what, and that
nothing changes without a gain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.cli import run
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import BadOption, NotFitted, StoreError
from whence.evaluation import own_calibration
from whence.geo import heading_difference_deg
from whence.index.store import Store
from whence.localize.build import STATE_BLOB, build_database
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.localize.maintain import BEFORE_BLOB, refit_database
from whence.models.adapted import HEAD, Adapted, learned_columns, network_bytes, own_network
from whence.models.backbones.base import Features
from whence.models.descriptor import load_model
from whence.models.engines.lite_graph import OWN_OUTPUTS
from whence.models.engines.onnx_graph import open_graph, read_arrays, with_arrays
from whence.recipes import get_recipe
from whence.settings import BuildOptions
from whence.training import adapting
from whence.training.adapting import (
    Trial,
    _hits,
    _questions,
    adapt_database,
    fitted_recipe,
    held_out,
)
from whence.training.branches.places import metric_points, photo_places
from whence.training.learners import head_of
from whence.training.options.places import PlaceOptions

QUICK = [
    f"augment.{change}"
    for change in ("width=64", "height=64", "num_views=1", "perspective=0", "blur_share=0")
]
QUICK += ["loop.num_steps=2", "loop.save_every=1", "optimizer.lr=0.05", "schedule.warmup_steps=0"]
MODEL = BuildOptions(model="whence-lite0-448")


@pytest.fixture(scope="module")
def made(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of a tiny city. Tests must not change it."""
    path = tmp_path_factory.mktemp("adapting") / "city.whence"
    build_database(
        sorted((world / "database").iterdir())[:30], path=path, options=MODEL, show_progress=False
    )
    return path


@pytest.fixture
def city(made: Path, request: pytest.FixtureRequest) -> Path:
    """One of these that a test may change."""
    path = made.with_name(f"{request.node.name}.whence")
    shutil.copytree(made, path)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def rows_of(path: Path) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    with Store.open(path) as store:
        return (
            list(store.photos.paths),
            store.descriptors[store.descriptor_rows].copy(),
            store.read_blob(STATE_BLOB) or {},
        )


def test_a_database_is_adapted_kept_and_undone(
    city: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learned numbers change and no others; a refit keeps the head, a query is answered with
    it; undone, all is as it was."""
    monkeypatch.setattr(Trial, "is_better", True)
    paths, before, state = rows_of(city)
    trial, report = adapt_database(city, get_recipe("adapt"), changes=QUICK, show_progress=False)
    assert report is not None
    assert report.num_described == len(paths)
    assert trial.num_photos == len(paths)
    assert not city.with_name(f"{city.name}.adapting").exists()
    paths_after, after, state_after = rows_of(city)
    columns = learned_columns(load_model(MODEL.model).descriptor)
    assert paths_after == paths
    assert np.abs(after[:, columns] - before[:, columns]).max() > 0.01
    assert np.allclose(
        np.delete(after, columns, axis=1), np.delete(before, columns, axis=1), atol=1e-6
    )
    own = read_arrays(network_bytes())
    assert max(np.abs(state_after[f"adapted_{name}"] - own[name]).max() for name in HEAD) > 1e-3
    with Localizer.open(city) as localizer:
        assert isinstance(localizer.model.descriptor, Adapted)
        file = localizer.photos.file(0)
        found = localizer.locate(file, options=RETRIEVE_ONLY)
        assert found.candidates[0].similarity == pytest.approx(1, abs=1e-5)
    with pytest.raises(BadOption, match="adapted already"):
        adapt_database(city, get_recipe("adapt"), show_progress=False)
    refit_database(city, show_progress=False)
    refitted = rows_of(city)[2]
    assert all(
        np.array_equal(refitted[f"adapted_{name}"], state_after[f"adapted_{name}"]) for name in HEAD
    )
    monkeypatch.setattr(own_calibration, "calibrate_report", lambda report, **_: "")
    assert run(["train", "adapt", "--db", str(city), "--undo", "-q"]) == 0
    paths_undone, undone, state_undone = rows_of(city)
    assert paths_undone == paths
    assert np.array_equal(undone, before)
    assert all(np.array_equal(state_undone[name], state[name]) for name in state)
    with Store.open(city) as store:
        assert BEFORE_BLOB not in store.blob_names
    assert run(["train", "adapt", "--db", str(city), "--undo", "-q"]) == 1


def test_nothing_changes_without_a_gain(city: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate that destroys the head: nothing is surely better, which is said, and every byte
    stays."""
    before = content_of(city)
    changes = [
        word
        for change in (*QUICK, "optimizer.lr=30", "loss.options.temperature=5")
        for word in ("--set", change)
    ]
    assert run(["train", "adapt", "--db", str(city), *changes, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["adapted"]
    assert said["gain_low"] <= 0
    assert said["gain"] == pytest.approx(said["after"] - said["before"])
    assert content_of(city) == before


def test_a_stopped_run_goes_on(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped when the new database is about to be written: the old one stands, and nothing is
    learned twice."""
    monkeypatch.setattr(Trial, "is_better", True)
    before = content_of(city)

    def no_disk(*_given: Any, **_named: Any) -> None:
        raise StoreError(city, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(adapting, "refit_database", no_disk)
        with pytest.raises(StoreError):
            adapt_database(city, get_recipe("adapt"), changes=QUICK, show_progress=False)
    assert content_of(city) == before
    assert list(city.with_name(f"{city.name}.adapting").glob("*/final.safetensors"))
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda *_given, **_named: pytest.fail("it learned again")
    )
    assert (
        adapt_database(city, get_recipe("adapt"), changes=QUICK, show_progress=False).report
        is not None
    )
    assert rows_of(city)[2].keys() > {f"adapted_{name}" for name in HEAD}


def test_who_cannot_be_adapted_is_told(
    city: Path, world: Path, street: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadOption, match="can be adapted"):
        load_model("rootsift-vlad", options={"adapted": True})
    with pytest.raises(NotFitted, match="whence train adapt"):
        load_model(MODEL.model, options={"adapted": True}).prepare([street / "database"])
    few = tmp_path / "few.whence"
    files = sorted((street / "database").iterdir())[:6]
    build_database(files, path=few, options=MODEL, show_progress=False)
    for words in (
        ["--db", str(few)],
        ["--undo"],
        ["--db", str(city), "--dataset", str(world)],
        ["--db", str(tmp_path / "none")],
    ):
        assert run(["train", "adapt", "-q", *words]) == 1
    assert run(["train", "tiny", "--db", str(city), "-q"]) == 1


def test_a_head_in_the_graph_is_the_head_that_learned() -> None:
    """Numbers written into the ONNX file are those read back, at half precision; its vectors are
    torch's."""
    model, random = network_bytes(), np.random.default_rng(0)
    own = read_arrays(model)
    assert with_arrays(model, own) == model
    head = {
        name: own[name] + 0.02 * random.normal(size=own[name].shape).astype(np.float32)
        for name in HEAD
    }
    written = read_arrays(with_arrays(model, head))
    for name in own:
        expected = head.get(name, own[name])
        assert np.array_equal(
            written[name], np.float32(np.float16(expected)) if expected.ndim > 1 else expected
        )
    with pytest.raises(ValueError, match="shape"):
        with_arrays(model, {"mix.b": head["mix.b"][:3]})
    images = random.normal(size=(2, 3, 64, 96)).astype(np.float32)
    finer, coarser, learned = open_graph(with_arrays(model, head), OWN_OUTPUTS)(images)
    halved = torch.nn.functional.avg_pool2d(torch.from_numpy(finer), 2)
    with torch.inference_mode():
        seen = torch.cat([halved, torch.from_numpy(coarser)], dim=1)
        expected = head_of(written)(Features(seen)).numpy()
    learned = learned[:, :, 0, 0]
    assert np.allclose(
        learned / np.linalg.norm(learned, axis=1, keepdims=True), expected, atol=1e-4
    )
    plain = load_model(MODEL.model)
    sight = own_network(plain.descriptor)
    assert sight is not None
    with pytest.raises(BadOption, match="fc"):
        Adapted(plain.descriptor).set_head({**head, "fc.w": head["fc.w"][:5]})


@pytest.mark.parametrize("name", [MODEL.model, "whence-lite0-words-960"])
def test_with_the_head_that_came_nothing_is_another(name: str) -> None:
    """Beside words too, whose keypoints are found as ever."""
    plain, adapted = (
        load_model(name, options=options).descriptor for options in ({}, {"adapted": True})
    )
    plain.load_packaged()
    assert isinstance(adapted, Adapted)
    own = read_arrays(network_bytes())
    head = {f"adapted_{part}": own[part] for part in HEAD}
    adapted.load_state({**plain.state(), **head})
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    expected = plain.describe([image])
    assert np.allclose(adapted.describe([image]), expected, atol=1e-6)
    assert adapted.state().keys() == plain.state().keys() | head.keys()
    assert (adapted.local is None) == (plain.local is None)
    if adapted.local is not None:
        ((row, found),) = adapted.describe_with_local([image])
        assert np.allclose(row, expected[0], atol=1e-6)
        assert len(found.keypoints) == len(plain.describe_with_local([image])[0][1].keypoints)
    adapted.load_state({**plain.state(), **head, "adapted_fc.b": own["fc.b"] + 0.5})
    changed = adapted.describe([image])[0] - expected[0]
    columns = learned_columns(plain)
    assert np.abs(changed[columns]).max() > 1e-3
    assert np.abs(np.delete(changed, columns)).max() < 1e-6


@pytest.fixture(scope="module")
def photos(world: Path) -> Photos:
    """Those of a tiny city, every fifth without a position."""
    found = scan_photos(world / "database")
    lost = np.arange(len(found)) % 5 == 0
    nowhere = {
        name: np.where(lost, np.nan, found.columns[name])
        for name in ("lat", "lon", "east_m", "north_m")
    }
    return found.with_columns(**nowhere)


def test_every_photo_is_a_place_with_those_near_it(photos: Photos) -> None:
    options = PlaceOptions(by="photo", radius_m=15, max_turn_deg=50)
    places, ground = photo_places(photos, options=options), metric_points(photos)
    for row in range(len(photos)):
        apart = np.linalg.norm(ground - ground[row], axis=1)
        turned = heading_difference_deg(photos.heading_deg, photos.heading_deg[row])
        expected = set(np.flatnonzero((apart <= 15) & (turned <= 50)).tolist()) | {row}
        assert set(places.views.of(row).tolist()) == expected
    assert np.array_equal(places.own, np.arange(len(photos)))
    one_spot = photos.select(np.full(4, 1)).with_columns(
        heading_deg=np.array([0, 40, 80, 180], np.float32)
    )
    points = photo_places(
        one_spot, options=PlaceOptions(by="photo", radius_m=12, max_turn_deg=40)
    ).points
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    assert apart[0, 2] == pytest.approx(30)
    assert apart[0, 1] < 30 < apart[0, 3]


def test_held_out_photos_follow_from_the_photos_and_are_asked(photos: Photos) -> None:
    """In whatever order they come; what is right for each question is what a slow look finds."""
    held = held_out(photos)
    order = np.random.default_rng(1).permutation(len(photos))
    shuffled = photos.select(order)
    assert {shuffled.content[row] for row in held_out(shuffled)} == {
        photos.content[row] for row in held
    }
    assert 0.15 * len(photos) < len(held) < 0.25 * len(photos)
    right, excluded, is_neighbour = _questions(photos, held)
    ground = metric_points(photos)
    for number, row in enumerate(held.tolist()):
        apart = np.linalg.norm(ground - ground[row], axis=1)
        near = (apart <= adapting.RADIUS_M) & (
            heading_difference_deg(photos.heading_deg, photos.heading_deg[row])
            <= adapting.MAX_TURN_DEG
        )
        others = set(np.flatnonzero(near).tolist()) - {row}
        assert set(right.of(number).tolist()) == others
        assert set(right.of(number + len(held)).tolist()) == others | {row}
        assert excluded[number] == row
        assert excluded[number + len(held)] == -1
    assert is_neighbour.tolist() == [True] * len(held) + [False] * len(held)
    similarities = np.random.default_rng(0).random((2 * len(held), len(photos)))
    hits = _hits(similarities, right, excluded)
    for number in range(2 * len(held)):
        counted = [row for row in range(len(photos)) if row != excluded[number]]
        best = max(counted, key=lambda row: similarities[number, row])
        assert hits[number] == (best in right.of(number))


def test_a_gain_is_a_sure_one_and_no_loss_of_neighbours() -> None:
    def trial(plain: str, adapted: str, *, times: int = 10) -> Trial:
        before, after = (
            np.array([letter == "1" for letter in text * times]) for text in (plain, adapted)
        )
        return Trial(
            9, 3, before, after, np.array([True, True, True, False, False, False] * times), 1.0, 0.0
        )

    assert trial("100000", "100001").is_better
    assert not trial("100000", "100001", times=1).is_better, "one question of six may be chance"
    assert not trial("100001", "100001").is_better
    assert not trial("110000", "100111").is_better, "more right, but neighbours lost"
    assert not trial("111111", "111110").is_better
    assert trial("100000", "100011").gain[0] == pytest.approx(2 / 6)


def test_the_recipe_fits_few_photos_of_any_shape(photos: Photos) -> None:
    wide = photos.with_columns(
        width=np.full(len(photos), 1600, np.int32), height=np.full(len(photos), 500, np.int32)
    )
    for table, size in (
        (photos, (320, 256)),
        (wide, (320, 96)),
        (wide.with_columns(width=wide.height, height=wide.width), (96, 320)),
    ):
        branch = fitted_recipe(get_recipe("adapt"), table).branches[0]
        assert (branch.augment.width, branch.augment.height) == size  # type: ignore[attr-defined]
        assert 2 <= branch.batches.num_places <= len(photos)  # type: ignore[attr-defined]
