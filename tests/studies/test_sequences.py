"""The study of sequences: its grid, a run without training, and one that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from whence.data.frame_folders import open_sequences
from whence.data.windows import cut_windows
from whence.studies import get_study
from whence.studies.frame import Budget, resolve_options, run_study
from whence.studies.sequence_arms import ARMS, JOINT, RULES, SHARES
from whence.studies.sequence_runs import KeptModel, drives_to_train_on, sequence_recipe, with_gaps
from writers_of_frames import write_drive, write_drives

TINY = (
    "loop.num_steps=1 loop.precision=no learner.backbone=resnet18conv2 learner.start_from= "
    "learner.start_with=all augment.width=32 augment.height=24 aggregator.options.num_words=2 "
    "words.num_photos=10 mining.num_queries=4 mining.num_negatives=2 mining.num_candidates=8 "
    "mining.positive_m=6 mining.excluded_m=8 batch_queries=2"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drives")
    write_drives(root, num=12, size=(96, 128))
    return root


def test_the_grid_has_every_method_length_order_speed_and_share() -> None:
    study = get_study("sequences")
    plain = [run.settings for run in study.grid(resolve_options(study, {"data": "x"}))]
    assert {run["method"] for run in plain} == {"one frame", *RULES}
    whole = [
        run.settings for run in study.grid(resolve_options(study, {"data": "x", "train": "y"}))
    ]
    assert {run["method"] for run in whole} == {"one frame", *RULES, *ARMS, *JOINT}
    assert {run["drive"] for run in whole} == {"as built", "reversed", "double speed", "gaps"}
    aside = [
        run.settings
        for run in study.grid(resolve_options(study, {"data": "x", "train": "y", "aside": "z"}))
    ]
    assert {run["method"] for run in aside if run["drive"] == "aside"} == {*RULES, *ARMS}
    for arm in JOINT:
        assert {1, 2, 3, 5, 7, 9} == {
            run["length"] for run in whole if run["method"] == arm and run["share"] == 100
        }
    assert {run["share"] for run in whole if run["method"] in JOINT} == set(SHARES)
    assert {run["length"] for run in whole if run["method"] == "gem, fc"} == {3}
    assert 1 in {run["length"] for run in whole if run["method"] == "seqvlad"}


def test_a_run_is_measured(folder: Path, tmp_path: Path) -> None:
    options = {"data": str(folder), "radius": 6.0, "model": "rootsift-vlad", "lengths": "3"}
    # Aside of another set: its drives are asked in place of these.
    options["aside"] = str(folder)
    budget = Budget(
        only=(
            "method=cat,length=3,drive=as_built",
            "method=matching,length=3,drive=double",
            "cat,length=3,drive=aside",
        )
    )
    found = run_study(
        get_study("sequences"),
        out=tmp_path / "out",
        options=options,
        budget=budget,
        show_progress=False,
    )
    done = [one for one in found.runs if one.is_done]
    assert len(done) == 3
    cat = [one.values["recall@1"] for one in done if one.run.settings["method"] == "cat"]
    assert cat[0] == cat[1]
    for one in done:
        assert {
            "recall@1",
            "recall@5",
            "size",
            "time",
            "search in 4 times",
            "search in 16 times",
            "queries",
        } <= set(one.values)
        assert 0 <= one.values["recall@1"].value <= 1


def test_a_training_is_one_of_the_runs(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    options = {
        "data": str(folder),
        "train": str(folder),
        "radius": 6.0,
        "lengths": "3",
        "changes": TINY,
    }
    budget = Budget(only=("method=seqvlad,length=3,drive=as_built",))
    found = run_study(
        get_study("sequences"),
        out=tmp_path / "out",
        options=options,
        budget=budget,
        show_progress=False,
    )
    (done,) = [one for one in found.runs if one.is_done]
    assert done.values["size"].value == 2 * 64 * 4
    study = get_study("sequences")
    resolved = resolve_options(study, {**options, "changes": ""})
    for arm in (*ARMS, *JOINT):
        recipe = sequence_recipe({"method": arm, "length": 3, "share": 5}, resolved)
        assert recipe.learner.sequence.length == 3  # type: ignore[union-attr]
        assert len(recipe.branches) == (2 if arm == JOINT[1] else 1)


def test_frames_are_described_once_for_all_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted and described by the first run; another set, or a frame more, is described anew."""
    drives = open_sequences(folder)
    files = [drives.queries.photos.file(row) for row in range(len(drives.queries.photos))]
    first = KeptModel("rootsift-vlad", drives, tmp_path)
    rows = first.describe(files)
    with monkeypatch.context() as patched:
        patched.setattr(
            type(first.descriptor), "fit", lambda *_given, **_named: pytest.fail("fitted twice")
        )
        patched.setattr(
            type(first.descriptor), "describe", lambda *_given: pytest.fail("described twice")
        )
        again = KeptModel("rootsift-vlad", drives, tmp_path)
        assert np.array_equal(again.describe(files), rows)
    assert np.array_equal(again.describe(files[:2]), rows[:2])


def test_a_gap_takes_every_window_across_it(tmp_path: Path) -> None:
    drives = write_drives(tmp_path, num=15)
    gapped = with_gaps(drives)
    assert gapped.queries.frame.tolist() == [frame for frame in range(15) if frame not in (3, 10)]
    assert gapped.database is drives.database
    windows = cut_windows(gapped.queries.sequence, gapped.queries.frame, length=3)
    starts = {int(gapped.queries.frame[window[0]]) for window in windows}
    assert starts == {0, 4, 5, 6, 7, 11, 12}


def test_a_larger_share_of_drives_holds_the_smaller_one(tmp_path: Path) -> None:
    drives = write_drives(tmp_path)
    for number in range(9):
        write_drive(
            tmp_path / "queries" / f"more{number}",
            list(range(3)),
            frames=list(range(3)),
            seed=number,
            aside_m=1,
            size=(24, 32),
        )
    whole = open_sequences(tmp_path)
    chosen = [
        set(drives_to_train_on(whole, share=share).queries.sequence.tolist()) for share in SHARES
    ]
    assert [len(one) for one in chosen] == [1, 2, 10]
    assert chosen[0] < chosen[1] < chosen[2]
    assert len(np.unique(drives.queries.sequence)) == 1
