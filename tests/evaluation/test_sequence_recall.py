"""Recall of sequences: counts and denominators, order, speed, drives without positions, and frames
that cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whence import cli
from whence.cards import ModelCard, Preprocessing
from whence.data.drives import SequenceSet
from whence.data.frame_folders import open_sequences
from whence.errors import BadOption, NoPhotos
from whence.evaluation.sequence_recall import SequenceRules, evaluate_sequences
from whence.models.descriptor import DescriptorModel
from whence.parts import Descriptor
from writers_of_frames import write_drive, write_drives

RULES = SequenceRules(length=3, radius_m=6, recall_at=(1, 2))


class Means(Descriptor):
    """The mean colours of a grid of fields, at unit length."""

    dim = 60

    def describe(self, images):
        rows = []
        for image in images:
            fields = np.array(
                [
                    part.mean(axis=(0, 1))
                    for row in np.array_split(image, 4)
                    for part in np.array_split(row, 5, axis=1)
                ]
            )
            row = (fields - fields.mean()).ravel()
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, np.float32).reshape(len(images), self.dim)


@pytest.fixture(scope="module")
def model() -> DescriptorModel:
    card = ModelCard("means", "fields", 60, Preprocessing(), "MIT")
    return DescriptorModel(card, Means())


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> SequenceSet:
    root = tmp_path_factory.mktemp("drives")
    write_drives(root)
    # A drive where the database shows nothing.
    write_drive(
        root / "queries" / "far",
        list(range(900, 905)),
        frames=list(range(5)),
        seed=1,
        aside_m=0,
        size=(24, 32),
    )
    return open_sequences(root)


def test_right_windows_are_found_and_those_without_positives_are_left_out(
    model: DescriptorModel, drives: SequenceSet
) -> None:
    found = evaluate_sequences(model, drives, rules=RULES)
    assert (found.num_database, len(found.first_hit), found.num_without_positives) == (
        6 + 3,
        6 + 3,
        3,
    )
    published, whole = found.with_positives[0], found.all_queries[0]
    assert (published.num_right, published.num_queries) == (6, 6)
    assert (whole.num_right, whole.num_queries) == (6, 9)
    assert found.descriptor_bytes == 60 * 4
    assert len(np.unique(found.drive)) == 2


@pytest.mark.parametrize("pool", ["mean", "max", "seqgem", "cat", "delta", "aligned", "matching"])
def test_a_reversed_database_is_nothing_to_those_without_an_order(
    model: DescriptorModel, drives: SequenceSet, pool: str
) -> None:
    forward, back = (
        evaluate_sequences(
            model, drives, rules=replace(RULES, pool=pool, is_reversed=is_reversed, speeds=(1.0,))
        ).first_hit
        for is_reversed in (False, True)
    )
    if pool in ("mean", "max", "seqgem"):
        assert np.array_equal(forward, back)
    else:
        # What the order does to descriptors is seen in the tests of the pools; overlapping windows
        # hide it in so small a set.
        assert (forward[:6] == 0).all()
        assert len(back) == len(forward)


def test_a_drive_at_twice_the_speed_is_cut_so(model: DescriptorModel, drives: SequenceSet) -> None:
    found = evaluate_sequences(model, drives, rules=replace(RULES, speed=2))
    assert len(found.first_hit) == 4 + 1
    matched = evaluate_sequences(model, drives, rules=replace(RULES, speed=2, pool="matching"))
    assert matched.with_positives[0].num_right == 4


def test_drives_without_positions_go_by_their_frames(
    model: DescriptorModel, tmp_path: Path
) -> None:
    found = write_drives(tmp_path / "placed")
    for side in ("database", "queries"):
        for file in sorted((tmp_path / "placed" / side).rglob("*.jpg")):
            fields = file.name.split("@")
            target = tmp_path / "plain" / side / "walk" / f"{fields[5]}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() and file.parent.name in ("a", "c"):
                target.with_name(f"{int(fields[4]):04d}.jpg").write_bytes(file.read_bytes())
    plain = open_sequences(tmp_path / "plain")
    assert len(plain.database.photos) == len(found.queries.photos) == 8
    with pytest.raises(NoPhotos, match="frames=N"):
        evaluate_sequences(model, plain, rules=RULES)
    counted = evaluate_sequences(model, plain, rules=replace(RULES, tolerance_frames=0))
    assert counted.num_without_positives == 0
    assert counted.with_positives[0].value == 1.0


def test_a_frame_that_cannot_be_read_takes_its_windows_along(
    model: DescriptorModel, tmp_path: Path
) -> None:
    write_drives(tmp_path)
    broken = sorted((tmp_path / "queries").rglob("*.jpg"))[4]
    broken.write_bytes(broken.read_bytes()[:200])
    found = evaluate_sequences(model, open_sequences(tmp_path), rules=RULES)
    assert [Path(path).name for path, _ in found.skipped] == [broken.name]
    assert len(found.first_hit) == 2 + 1
    with pytest.raises(NoPhotos, match="follow one another"):
        evaluate_sequences(model, open_sequences(tmp_path), rules=replace(RULES, length=9))
    with pytest.raises(BadOption, match="has no option"):
        evaluate_sequences(
            model,
            open_sequences(tmp_path),
            rules=replace(RULES, pool="mean", pool_options={"p": 1}),
        )


def test_the_verb_prints_counts_and_the_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drives(tmp_path, size=(96, 128))
    words = [
        "evaluate",
        str(tmp_path),
        "--sequence",
        "3",
        "--model",
        "rootsift-vlad",
        "--set",
        "thresholds_m=6",
        "--set",
        "recall_at=1,5",
    ]
    assert cli.run([*words, "--set", "pool=cat", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_queries"] == 6
    assert [one["n"] for one in found["recall"]["with_positives"]] == [1, 5]
    assert "windows of 3 frames" in found["protocol"]
    assert cli.run([*words, "--set", "is_reversed=true", "-q"]) == 0
    said = capsys.readouterr().out
    assert "database reversed" in said
    assert cli.run([*words[:-1], "recall_at=one"]) == 1
    assert "recall_at" in capsys.readouterr().err
