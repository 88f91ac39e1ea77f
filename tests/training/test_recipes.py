"""The battery over every recipe: it trains two tiny steps on a tiny rendered set, says how fast,
and goes on where it stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.cli import run
from whence.models.backbones.timesformer import TimeSformer
from whence.models.backbones.transformers import VitShape
from whence.recipes import get_recipe, list_recipes
from whence.training import learners
from whence.training.checkpoints import checkpoint_file, read_checkpoint
from whence.training.loop import FINAL
from whence.training.recipe import field_names
from whence.training.record import read_log

SMALL = (
    "width=64", "height=48", "augment.width=64", "augment.height=48", "augment.stored_width=0",
    "augment.stored_height=0", "augment.small_steps=0", "batches.num_places=4",
    "batches.num_views=2", "batches.min_apart_m=8", "places.min_photos=2", "places.radius_m=15",
    "places.max_turn_deg=60", "pairs.num_views=2", "pairs.num_pairs=2", "mining.num_queries=8",
    "mining.num_negatives=3", "mining.num_candidates=20", "mining.positive_m=15",
    "words.num_photos=20", "batch_queries=2", "validate_on.num_queries=4", "loop.num_steps=2",
    "loop.log_every=1", "loop.save_every=1", "loop.validate_every=2",
)  # fmt: skip
"""Whatever the recipe has of these is made small; all else is its own."""


SAID = {
    name
    for name in list_recipes()
    if "listed" in get_recipe(name).to_json()
    or name in ("anyloc-vocabulary", "distilled-small")
    or name.startswith(("meshvpr", "segvpr"))
    or get_recipe(name).learner.kind
    in ("local features", "clip features", "frame tokens", "forecasts")
    or get_recipe(name).learner.kind in ("language model", "compressor")
    or "tiles" in {branch.kind for branch in get_recipe(name).branches}
}
"""Those whose data say what belongs together; tests of their branches train them: sources,
distilled, aligned, labelled, tiles, local features, clips, texts."""


@pytest.mark.parametrize("name", sorted({*list_recipes()} - SAID))
def test_every_recipe_trains(
    name: str,
    world: Path,
    sf_xl: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Random weights do where released ones would have to be fetched.
    monkeypatch.setattr(learners, "load_imagenet", lambda _backbone, **_which: None)
    recipe = get_recipe(name)
    changes = [change for change in SMALL if change.partition("=")[0] in field_names(recipe)]
    words = [word for change in changes for word in ("--set", change)]
    if getattr(getattr(recipe.learner, "aggregator", None), "name", "") == "netvlad":
        words += ["--set", "aggregator.options.num_words=4"]
    if recipe.learner.kind == "regressor":
        words += [
            "--model",
            "whence-resnet18conv4-gem-256",
            "--set",
            "learner.backbone=",
            "--set",
            "losses.readout=features",
            "--set",
            "validate_on.readout=features",
            "--set",
            "learner.backbone=",
        ]
    if name.endswith(("lite", "lite0", "adapt", "benchmark-small")):
        words += [
            word
            for change in changes
            if change.endswith("height=48")
            for word in ("--set", change.replace("48", "64"))
        ]
    if {branch.kind for branch in recipe.branches} == {"classes"}:
        # Panoramas and crops, and another network: what the recipe says of classes is its own.
        world = sf_xl
        small = (
            "cells.min_photos=2",
            "num_groups=0",
            "batches_per_turn=1",
            "batch_size=4",
            "loop.precision=no",
        )
        other = ("learner.backbone=resnet18conv2", "learner.start_from=", "learner.freeze_before=")
        words += [word for change in (*small, *other) for word in ("--set", change)]
    if getattr(recipe.learner, "sequence", None) and recipe.learner.sequence.name:
        # Another, smaller network but for early fusion, and windows of two frames; what is said of
        # sequences is the recipe's own.
        other = [
            "learner.start_from=",
            "learner.freeze_before=",
            "learner.backbone_options={}",
            "sequence.length=2",
            "loop.precision=no",
        ]
        other += [
            "validate_on.batch_size=64",
            "mining.num_negatives=2",
            "mining.positive_m=4",
            "mining.excluded_m=4",
        ]
        if recipe.learner.sequence.name == "early":
            tiny = VitShape(24, 1, 3, patch_px=16, image_px=32, is_dinov2=False)
            monkeypatch.setattr(
                learners,
                "make_backbone",
                lambda _name, **_options: TimeSformer(num_frames=2, shape=tiny),
            )
            other += ["augment.width=32", "augment.height=32"]
        else:
            other += ["learner.backbone=resnet18conv2"]
        if recipe.learner.learning == "as published":
            other += ["learner.learning=all"]
        if recipe.learner.sequence.name == "seqnet":
            other += [
                "sequence.options.dim=8",
                "sequence.options.width=2",
                "aggregator.options.dim=8",
                "aggregator.options.num_words=4",
            ]
        if len(recipe.branches) > 1:
            other += [
                "cells.min_photos=2",
                "cells.num_apart=1",
                "num_groups=0",
                "branches.1.batch_size=2",
            ]
        words += [word for change in other for word in ("--set", change)]
    if name.startswith("image-retrieval"):
        words += [
            "--set",
            "backbone=dinov2_vits14",
            "--set",
            "augment.width=70",
            "--set",
            "augment.height=42",
        ]
    out = tmp_path / "run"
    command = [
        "train",
        name,
        *words,
        "--dataset",
        str(world),
        "--val",
        str(world),
        "--out",
        str(out),
        "-q",
    ]
    assert run([*command, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["num_steps"] == 2
    assert 0 <= done["best_recall"] <= 1
    assert done["images_per_s"] > 0
    assert 0 <= done["waiting_share"] <= 1
    lines = [line for line in read_log(out / "log.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and line["images_per_s"] > 0 for line in lines)
    assert json.loads((out / "recipe.json").read_text())["recipe"]["name"] == name
    whole = read_checkpoint(out / FINAL).tensors
    # As if stopped after the first step.
    checkpoint_file(out / "checkpoints", 2).unlink()
    assert run([*command, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "images a second" in said
    assert "waiting for photos" in said
    again = read_checkpoint(out / FINAL).tensors
    assert whole.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
