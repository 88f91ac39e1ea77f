"""Rendered clips, and trainings of features, tokens and forecasts on them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from whence.data.clips import cut_clips, read_clips
from whence.errors import BadOption, NoPhotos, UnreadableTable
from whence.models.tokens.opening import open_tokens
from whence.recipes import get_recipe
from whence.studies import get_study
from whence.studies.frame import Budget, run_study
from whence.training.clip_learners import mean_iou
from whence.training.losses.clips import feature_loss, hidden_loss, log_cosh
from whence.training.recipe import Recipe, override
from whence.training.record import read_log
from whence.training.train import train
from whence.worlds.clips import ClipSpec, render_clip, render_clips

SPEC = ClipSpec(num_train=32, num_val=2, num_test=4)
SMALL = ("loop.num_steps=3", "loop.log_every=1", "loop.validate_every=3", "batch_size=4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("clips") / "world", SPEC, show_progress=False).path


@pytest.fixture(scope="module")
def features(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "run"
    train(
        small("clip-features-small"),
        str(clips),
        out=out,
        validation=str(clips),
        show_progress=False,
    )
    return out / "features.safetensors"


@pytest.fixture(scope="module")
def tokens(clips: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokens") / "run"
    recipe = small(
        "deltatok-small",
        f"learner.features={features}",
        "learner.depth=1",
        "validate_on.num_clips=2",
    )
    train(recipe, str(clips), out=out, validation=str(clips), show_progress=False)
    return out / "final.safetensors"


def small(name: str, *changes: str) -> Recipe:
    return override(get_recipe(name), [*SMALL, *changes])


def test_a_clip_follows_from_its_seed_and_something_turns() -> None:
    first, again = (render_clip(SPEC, "train", 3) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert (np.diff(first["times_s"]) > 0).all()
    assert first["frames"].shape == (8, 64, 64, 3)
    assert set(np.unique(first["labels"])) <= {0, 1, 2, 3, 4}
    assert ((first["depth_m"] < 20) == (first["labels"] > 0)).all()
    even = render_clip(SPEC, "test", 0)
    assert np.allclose(np.diff(even["times_s"]), 0.2)


def test_clips_are_rendered_once_and_read_back(clips: Path) -> None:
    found = read_clips(clips, split="train")
    assert len(found) == 32
    assert np.array_equal(found.frames(np.array([5]))[0], render_clip(SPEC, "train", 5)["frames"])
    assert render_clips(clips, SPEC, show_progress=False).num_rendered == 0
    with pytest.raises(NoPhotos, match=r"no clips other\.npz"):
        read_clips(clips, split="other")


def test_broken_clips_are_said(tmp_path: Path) -> None:
    (tmp_path / "train.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UnreadableTable, match="broken"):
        read_clips(tmp_path)


def test_windows_of_drives_share_frames() -> None:
    pixels = np.zeros((7, 4, 4, 3), np.uint8)
    drives = np.array(["a"] * 4 + ["b"] * 3)
    found = cut_clips(pixels, drives, np.array([0, 1, 2, 2.0, 0, 1, 2]), length=3)
    assert found.rows.tolist() == [[0, 1, 2], [4, 5, 6]]
    with pytest.raises(NoPhotos, match="5 frames"):
        cut_clips(pixels, drives, np.arange(7.0), length=5)


def test_golden_losses() -> None:
    apart = torch.tensor([0, 0.1, 0.5, 1, 2, 5])
    expected = [0, 0.004992, 0.120115, 0.433781, 1.325003, 4.306898]
    assert log_cosh(apart).item() == pytest.approx(sum(expected) / 6, abs=1e-5)
    assert feature_loss(apart, torch.zeros(6), name="squared").item() == pytest.approx(
        apart.square().mean().item()
    )
    taught, made = torch.tensor([[1.0, 2, 3], [4, 5, 9]]), torch.tensor([[1.5, 2, 1], [4, 5.2, 9]])
    assert hidden_loss([made], [taught]).item() == pytest.approx(0.0969326, abs=1e-6)


def test_golden_loss_over_layers() -> None:
    from fills import image_of

    taught = [(1 + layer) * image_of((3, 4), 1000 + layer) for layer in (1, 2, 3)]
    parts = [hidden_loss([one.roll(1, dims=1)], [one]).item() for one in taught]
    assert parts == pytest.approx([0.736087, 0.852176, 1.250833], abs=1e-4)
    assert hidden_loss([one.roll(1, dims=1) for one in taught], taught).item() == pytest.approx(
        2.839097, abs=1e-4
    )


def test_mean_iou_is_its_definition() -> None:
    found, truth = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert mean_iou(found, truth, num=4) == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_features_are_frozen_below_tokens(features: Path, tokens: Path) -> None:
    below, above = open_tokens(features), open_tokens(tokens)
    assert below.tokens is None
    frozen = below.features.state_dict()
    assert all(
        torch.equal(value, above.features.state_dict()[name]) for name, value in frozen.items()
    )
    assert above.tokenize(read_clips_frames()).shape == (8, 64)


def read_clips_frames() -> np.ndarray:
    return render_clip(SPEC, "val", 0)["frames"]


@pytest.mark.parametrize("over", ["tokens", "patches", "one"])
def test_forecasts_train_and_go_on_where_they_stopped(
    over: str, clips: Path, features: Path, tokens: Path, tmp_path: Path
) -> None:
    start = f"learner.features={features}" if over == "patches" else f"learner.tokens={tokens}"
    changes = [
        start,
        "learner.depth=1",
        "loss.num_many=2",
        f"learner.is_learned={str(over == 'one').lower()}",
    ]
    recipe = small(
        "deltaworld-small",
        *changes,
        "validate_on.num_clips=2",
        "validate_on.num_samples=2",
        "loop.save_every=1",
    )
    train(recipe, str(clips), out=tmp_path / "run", validation=str(clips), show_progress=False)
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert 0 < lines[-1]["recall"] < 1
    found = open_tokens(tmp_path / "run" / "final.safetensors")
    whole = {name: value.clone() for name, value in found.state_dict().items()}
    (tmp_path / "run" / "checkpoints" / "step-00000003.safetensors").unlink(missing_ok=True)
    train(
        recipe,
        str(clips),
        out=tmp_path / "run",
        validation=str(clips),
        is_resumed=True,
        show_progress=False,
    )
    again = open_tokens(tmp_path / "run" / "final.safetensors").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_what_does_not_fit_is_said(
    clips: Path, features: Path, tokens: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadOption, match=r"learner\.features"):
        train(small("deltatok-small"), str(clips), out=tmp_path / "a")
    with pytest.raises(BadOption, match="what is forecast"):
        train(small("deltaworld-small"), str(clips), out=tmp_path / "b")
    with pytest.raises(BadOption, match="features alone"):
        train(
            small("deltaworld-small", f"learner.tokens={features}"), str(clips), out=tmp_path / "c"
        )
    with pytest.raises(BadOption, match=r"loss\.name=log-cosh"):
        train(
            small("deltatok-small", f"learner.features={features}", "loss.name=shown"),
            str(clips),
            out=tmp_path / "d",
        )
    with pytest.raises(BadOption, match="are not possible"):
        train(
            small("deltatok-small", f"learner.features={features}", "batch_size=99"),
            str(clips),
            out=tmp_path / "e",
        )


def test_the_study_measures_each_kind_of_arm(clips: Path, features: Path, tmp_path: Path) -> None:
    options = {
        "clips": str(clips),
        "features": str(features),
        "steps": 1,
        "world_steps": 1,
        "patch_steps": 1,
        "samples": 2,
    }
    only = (
        "part=made_again,arm=copy_last",
        "part=made_again,arm=delta_token,steps",
        "arm=present,steps=3",
    )
    only = (
        *only,
        "part=forecast,arm=DeltaWorld,steps=3",
        "part=candidates,arm=copy_last,steps=1",
        "arm=patches,_one,steps=3",
    )
    changed = {**options, "test_clips": 4, "readout_steps": 2}
    found = run_study(
        get_study("delta"),
        out=tmp_path / "study",
        options=changed,
        budget=Budget(only),
        show_progress=False,
    )
    wanted = [one for one in found.runs if Budget(only).wants(one.run)]
    assert [one.reason for one in wanted] == [""] * 6
    done = {
        (one.run.settings["part"], one.run.settings["arm"]): one
        for one in found.runs
        if one.is_done
    }
    assert done["made again", "copy last"].values["error"].value == pytest.approx(1)
    assert done["forecast", "present"].values["error"].value == 0
    assert done["forecast", "DeltaWorld"].values["tokens a frame"].value == 1
    assert done["forecast", "patches, one"].values["tokens a frame"].value == 64
    assert 0 <= done["candidates", "copy last"].values["fetched"].value <= 1
    for _, one in done.items():
        assert all(math.isfinite(value.value) for value in one.values.values())
    best, mean = (
        done["forecast", "DeltaWorld"].values[name].value for name in ("error", "error of the mean")
    )
    assert best <= mean + 0.5
    assert json.loads((tmp_path / "study" / "study.json").read_text())["study"] == "delta"
