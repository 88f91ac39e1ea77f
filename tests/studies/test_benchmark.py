"""The benchmark's studies: every grid is told, runs are measured on a small world, what cannot be
measured says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence import cli
from whence.studies import get_study
from whence.studies.benchmark import RETRIEVAL, STUDIES
from whence.studies.benchmark_runs import measure_mining, measure_retrieval, measure_size
from whence.studies.frame import Budget, resolve_options, run_study


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_grids_are_complete_before_anything_is_measured(study, world: Path, tmp_path: Path) -> None:
    needed = {option.name: str(world) for option in study.options if option.is_needed}
    result = run_study(
        study,
        out=tmp_path / "s",
        options=needed,
        budget=Budget(is_measuring=False),
        show_progress=False,
    )
    keys = [found.run.key for found in result.runs]
    assert len(set(keys)) == len(keys) > 2
    assert not any(found.is_done for found in result.runs)
    assert str(world) in result.protocol


def test_dimensions_by_pca(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "vg-pca", "--option", f"data={world}", "--out", str(tmp_path / "s"), "--json"]
    assert cli.run(words) == 0
    runs = json.loads(capsys.readouterr().out)["cells"]
    done = {(run["settings"]["PCA"], run["settings"]["whitened"]): run for run in runs}
    assert done[0, "no"]["values"]["dimensions"]["value"] == 256
    assert done[16, "yes"]["values"]["descriptors"]["value"] == pytest.approx(60 * 16 * 4 / 1e6)
    assert "needs at least 256 photos" in done[128, "no"]["reason"]
    assert 0 <= done[8, "no"]["values"]["recall@1 within 25 m"]["value"] <= 1


def test_smaller_photos_cost_less(world: Path, tmp_path: Path) -> None:
    study = get_study("vg-resize")
    options = resolve_options(study, {"data": str(world)})
    whole, small = (measure_size({"size %": scale}, options, tmp_path) for scale in (100, 60))
    assert small["GFLOPs"].value == pytest.approx(0.36 * whole["GFLOPs"].value, rel=0.1)
    assert small["parameters"] == whole["parameters"]
    assert small["describing"].value > 0


@pytest.mark.parametrize("aggregation", ["gem", "netvlad"])
def test_mining_is_studied(aggregation: str, world: Path, tmp_path: Path) -> None:
    study = get_study("vg-mining")
    given = {
        "data": str(world),
        "train": str(world),
        "recipe": "tiny-tuples",
        "changes": "loop.num_steps=2 words.num_photos=40",
    }
    options = resolve_options(study, given)
    values = measure_mining({"aggregation": aggregation, "mining": "full"}, options, tmp_path)
    assert values["dimensions"].value == (64 if aggregation == "gem" else 64 * 64)
    assert 0 < values["mining"].value < 1
    assert values["training"].value > 0
    again = measure_mining({"aggregation": aggregation, "mining": "full"}, options, tmp_path)
    assert again["recall@1 within 25 m"] == values["recall@1 within 25 m"], (
        "a finished training is not made again"
    )


def test_retrieval_training_is_studied(world: Path, tmp_path: Path) -> None:
    study = get_study("retrieval-training")
    changes = "loop.num_steps=2 batches.num_places=4"
    options = resolve_options(
        study, {"data": str(world), "train": str(world), "recipe": "tiny", "changes": changes}
    )
    values = measure_retrieval({"factor": "loss", "value": "cosface"}, options, tmp_path)
    assert values["dimensions"].value == 64
    assert set(RETRIEVAL) == {"loss", "miner", "places", "views", "lr", "layers"}
