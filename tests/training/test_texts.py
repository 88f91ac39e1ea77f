"""Logs, a small language model that learns from them, a compressor over it, and free questions to a
journal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from whence.cli import run
from whence.data.texts import read_texts
from whence.errors import BadOption, NoPhotos, UnreadableTable, UnreadableWeights
from whence.journal import Journal
from whence.journal.free import check_answer, record_text
from whence.journal.log import Entry
from whence.models.tokens.context import (
    Compressor,
    LanguageModel,
    break_even,
    continue_text,
    kept_bytes,
)
from whence.models.tokens.segments import SegmentCache, segment
from whence.recipes import get_recipe
from whence.studies import get_study
from whence.studies.frame import Budget, run_study
from whence.training.branches.texts import Asked, words_before
from whence.training.recipe import override
from whence.training.record import read_log
from whence.training.train import train
from whence.types import GeoPoint, Position
from whence.worlds.logs import LogSpec, make_log, write_logs

SPEC = LogSpec(num_train=16, num_val=2, num_test=3, length=40)
SMALL = [
    "loop.num_steps=3",
    "loop.log_every=1",
    "loop.validate_every=3",
    "batch_size=4",
    "num_questions=2",
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs") / "world", SPEC).path


@pytest.fixture(scope="module")
def model(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("language") / "run"
    recipe = override(
        get_recipe("log-language-small"),
        [*SMALL, "learner.width=32", "learner.depth=2", "learner.hidden=64"],
    )
    train(recipe, str(logs), out=out, validation=str(logs), show_progress=False)
    return out / "model"


@pytest.fixture(scope="module")
def compressor_file(logs: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compressor") / "run"
    recipe = override(
        get_recipe("compllm-small"), [*SMALL, f"learner.model={model}", "learner.rank=4"]
    )
    train(recipe, str(logs), out=out, validation=str(logs), show_progress=False)
    lines = [line for line in read_log(out / "log.jsonl") if "loss" in line]
    assert len(lines) == 3
    assert all(math.isfinite(line["loss"]) for line in lines)
    return out / "compressor.safetensors"


def test_a_log_follows_from_its_seed_and_no_time_is_twice() -> None:
    log = make_log(SPEC, "test", 1)
    assert log == make_log(SPEC, "test", 1)
    assert len({record[:6] for record in log}) == 40
    assert all(len(record.split()) == 5 for record in log)


def test_records_near_one_another_share_hours_or_minutes() -> None:
    whole = LogSpec(num_train=40, num_val=1, num_test=1, length=288)
    ways = set()
    for number in range(40):
        words = [record.split() for record in make_log(whole, "train", number)]
        assert len({(hour, minute) for hour, minute, *_ in words}) == 288
        hours, minutes = ({one[k] for one in words[:24]} for k in range(2))
        ways.add("hours" if len(hours) == 2 else "minutes" if len(minutes) == 1 else "any")
        assert len(hours) > 2 or len(minutes) == 12
    assert ways == {"hours", "minutes", "any"}


def test_words_before_answers() -> None:
    #                 ? 14: 35 rain ? a b c d: the answers are of one and of two tokens.
    questions = Asked([1, 2, 3, 4, 1, 5, 6, 7, 8], [3, 7, 8])
    assert words_before(questions, 0) == []
    assert words_before(questions, 1) == [2, 6]
    assert words_before(questions, 2) == [2, 1, 6, 5]
    assert words_before(questions, 9) == [2, 1, 0, 6, 5, 4]
    assert words_before(Asked([7, 8], [0, 1]), 2) == []


def test_texts_are_read_back_and_broken_ones_said(logs: Path, tmp_path: Path) -> None:
    assert list(read_texts(logs, split="val")[0].records) == make_log(SPEC, "val", 0)
    with pytest.raises(NoPhotos, match=r"other\.jsonl"):
        read_texts(logs, split="other")
    (tmp_path / "train.jsonl").write_text(
        '{"records": ["a"], "questions": [["who", "me"]]}\n{"records": 3}\n'
    )
    with pytest.raises(UnreadableTable, match="line 2"):
        read_texts(tmp_path, split="train")
    (tmp_path / "val.jsonl").write_text('{"records": ["a"], "questions": [["who", "me"]]}\n')
    assert read_texts(tmp_path, split="val")[0].questions == (("who", "me"),)


def test_segments_are_compressed_by_themselves(model: Path, compressor_file: Path) -> None:
    network = LanguageModel.of_folder(model).network
    compressor = Compressor.of_file(compressor_file, network)
    ids = np.random.default_rng(0).integers(2, 50, 60).tolist()
    whole = compressor.compress(segment(ids, 20))
    first, second = (
        compressor.compress(segment(ids[:20], 20)),
        compressor.compress(segment(ids[20:], 20)),
    )
    assert whole.shape == (30, 32)
    torch.testing.assert_close(whole, torch.cat([first, second]), atol=1e-5, rtol=1e-5)
    swapped = compressor.compress(segment(ids[20:40] + ids[:20] + ids[40:], 20))
    torch.testing.assert_close(
        swapped, torch.cat([whole[10:20], whole[:10], whole[20:]]), atol=1e-5, rtol=1e-5
    )
    with SegmentCache.of_file() as cache:
        kept = [compressor.compress(segment(ids, 20), cache=cache) for _ in range(2)]
        assert (cache.num_found, cache.num_missed) == (3, 3)
    assert torch.equal(kept[0], kept[1])


def test_the_model_that_answers_is_the_one_below(model: Path, compressor_file: Path) -> None:
    plain, other = LanguageModel.of_folder(model), LanguageModel.of_folder(model)
    compressor = Compressor.of_file(compressor_file, other.network)
    ids = torch.tensor([plain.ids("14: 35 rain located ; ? 14: 35")])
    assert ids.shape == (1, 8)
    with torch.inference_mode(), compressor.answering() as network:
        assert torch.equal(plain.network(ids).logits, network(ids).logits)
    values = plain.network.get_input_embeddings().weight[ids[0]]
    found = continue_text(plain.network, values, num_new=2, end_id=0)
    likeliest = int(plain.network(ids).logits[0, -1].argmax())
    assert found == [] if likeliest == 0 else found[0] == likeliest


def test_files_of_something_else_are_refused(
    model: Path, compressor_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableWeights, match="no config"):
        LanguageModel.of_folder(tmp_path)
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(UnreadableWeights):
        LanguageModel.of_folder(tmp_path)
    network = LanguageModel.of_folder(model).network
    with torch.no_grad():
        network.lm_head.weight.add_(1)
    with pytest.raises(UnreadableWeights, match="another language model"):
        Compressor.of_file(compressor_file, network)
    with pytest.raises(UnreadableWeights, match="no compressor"):
        Compressor.of_file(model / "model.safetensors", network)
    with pytest.raises(BadOption, match=r"learner\.model"):
        train(get_recipe("compllm-small"), str(tmp_path), out=tmp_path / "run")


def test_counts() -> None:
    assert break_even(128, 2) == 2048
    assert break_even(2560, 2) == 40_960
    assert break_even(128, 4) == pytest.approx(819.2)


def test_bytes_that_are_kept(model: Path) -> None:
    network = LanguageModel.of_folder(model).network
    heads = 4 * 32
    assert kept_bytes(network, 10) == 2 * 2 * heads * 4 * 10


def entries(*texts: str) -> list[tuple[Entry, str]]:
    return [
        (
            Entry(number, float(number), float(number), None, Position("a.jpg", "unknown", None)),
            text,
        )
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("question", "answer", "is_confirmed", "rows", "others"),
    [
        ("what weather at 14: 35", "rain", True, [0], []),
        ("what weather at 14: 35", "snow", False, [], [0]),
        ("what weather at 15: 40", "It was snow.", True, [1], []),
        ("when was it snow", "15: 40", True, [1], []),
        ("when was it snow", "16: 40", False, [], [1]),
        ("what weather", "hail", False, [], []),
        ("which were located", "14: 35 and 99", False, [], [0, 1]),
    ],
)
def test_answers_are_checked_against_rows(
    question: str, answer: str, is_confirmed: bool, rows: list[int], others: list[int]
) -> None:
    found = check_answer(
        question,
        answer,
        entries("14: 35 rain located ;", "15: 40 snow located ;", "17: 00 fog unknown ;"),
    )
    assert found.is_confirmed == is_confirmed
    assert [entry.number for entry in found.rows] == rows
    assert [entry.number for entry in found.others] == others


def test_free_questions_of_the_command_line(
    model: Path, compressor_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.journal"
    with Journal.open(file) as journal:
        for hour, weather in enumerate(("rain", "snow", "fog")):
            answer = Position(
                "q.jpg", "located", GeoPoint(48.0, 11.0), radius_m=10.0, confidence=0.95
            )
            journal.append([answer], taken_at=hour * 3600.0 + 5 * 60, weather=weather)
    assert run(["journal", "ask", str(file), "01: 05", "--utc"]) != 0
    capsys.readouterr()
    code = run(["journal", "ask", str(file), "01: 05", "--model", str(model), "--utc", "--json"])
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (said["read"], said["inputs"]) == (3, 15)
    assert code == (0 if said["is_confirmed"] else 3)
    assert said["is_confirmed"] == (said["answer"] == "snow")
    (model / "compressor.safetensors").write_bytes(compressor_file.read_bytes())
    try:
        asked = [
            "journal",
            "ask",
            str(file),
            "01: 05",
            "--model",
            str(model),
            "--cache",
            str(tmp_path / "segments"),
            "--utc",
        ]
        for cached in (0, 1):
            run([*asked, "--json"])
            said = json.loads(capsys.readouterr().out.splitlines()[0])
            assert (said["inputs"], said["cached"]) == (8, cached)
        run(asked)
        assert "3 rows were read as 8 vectors" in capsys.readouterr().out
    finally:
        (model / "compressor.safetensors").unlink()
    # What the journal's own words say is never put to a model.
    assert (
        run(
            [
                "journal",
                "ask",
                str(file),
                "how many answers in snow",
                "--model",
                str(tmp_path),
                "--utc",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.strip() == "1"


def test_a_row_as_the_usual_text() -> None:
    from whence.journal.free import LogFormat

    position = Position("q.jpg", "located", GeoPoint(48.1, 11.5), radius_m=12.0, confidence=0.95)
    text = record_text(
        Entry(7, 3600.0, 0.0, None, position, weather="rain"), LogFormat(), is_utc=True
    )
    assert text.startswith(
        "row 7: 1970-01-01 01:00, located at 48.10000, 11.50000, radius 12 m, confidence 0.95, "
        "weather rain"
    )


def test_the_study_measures_answers_and_reading(logs: Path, model: Path, tmp_path: Path) -> None:
    options = {"logs": str(logs), "model": str(model), "steps": 1, "test_logs": 2, "width": 32}
    only = ("part=answers*records=4", "records=200")
    found = run_study(
        get_study("compllm"),
        out=tmp_path / "study",
        options=options,
        budget=Budget(only),
        show_progress=False,
    )
    wanted = [one for one in found.runs if Budget(only).wants(one.run)]
    assert [one.reason for one in wanted] == [""] * 10
    done = {
        (one.run.settings["part"], one.run.settings["arm"]): one.values
        for one in found.runs
        if one.is_done
    }
    assert len(done) == 7 + 3
    assert done["answers", "plain"]["inputs"].value == 20
    assert done["answers", "2 tokens a vector"]["inputs"].value == 10
    assert done["answers", "4 tokens a vector"]["inputs"].value == 5
    assert done["reading", "compressed before"]["inputs"].value == 500
    assert done["reading", "plain"]["kept"].value == pytest.approx(2 * 4 * 32 * 4 * 1008 / 1e6)
