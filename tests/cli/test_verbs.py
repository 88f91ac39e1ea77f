"""The command line: every verb, its JSON, its exit codes, its error messages."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from whence import cli
from whence.data.fields import as_size
from whence.errors import BadOption
from whence.journal import Journal

Capture = pytest.CaptureFixture[str]


def whence(*arguments: str | Path) -> int:
    return cli.run([str(argument) for argument in arguments])


def lines_of(capture: Capture) -> list[dict]:
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def city(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the street. Tests must not change it."""
    root = tmp_path_factory.mktemp("cli")
    assert whence("index", street / "database", "--db", root / "city.whence", "--quiet") == 0
    return root / "city.whence"


@pytest.fixture
def small(street: Path, tmp_path: Path) -> Path:
    """A folder photos/ with three photos."""
    (tmp_path / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:3]:
        shutil.copy(file, tmp_path / "photos")
    return tmp_path


def test_index_reports(small: Path, capsys: Capture) -> None:
    (small / "photos" / "bad.jpg").write_text("no picture")
    assert whence("index", small / "photos", "--db", small / "c.whence", "--json") == 0
    report = lines_of(capsys)[0]
    assert (report["num_photos"], report["num_described"], report["vocabulary"]) == (3, 3, "fitted")
    assert [entry["photo"].endswith("bad.jpg") for entry in report["skipped"]] == [True]
    assert whence("index", small / "photos", "--db", small / "c.whence") == 0
    captured = capsys.readouterr()
    assert "3 photos, 3 with coordinates" in captured.out
    assert "nothing changed" in captured.out
    assert "bad.jpg" in captured.err


def test_index_estimates_before_it_works(small: Path, capsys: Capture) -> None:
    assert (
        whence("index", small / "photos", "--db", small / "c.whence", "--estimate", "--json") == 0
    )
    plan = lines_of(capsys)[0]
    assert (plan["num_photos"], plan["num_to_describe"]) == (3, 3)
    assert plan["size_bytes"] > 3 * 8192 * 4
    assert not (small / "c.whence").exists()
    assert whence("index", small / "photos", "--db", small / "c.whence", "--estimate") == 0
    assert "3 to describe" in capsys.readouterr().out


def test_index_maintenance(small: Path, street: Path, capsys: Capture) -> None:
    path = small / "c.whence"
    assert (
        whence(
            "index",
            small / "photos",
            "--db",
            path,
            "-q",
            "--set",
            "dtype=float16",
            "--engine",
            "flat",
        )
        == 0
    )
    shutil.copy(sorted((street / "database").iterdir())[5], small / "photos")
    assert whence("database", "refresh", "--db", path, "--json") == 0
    first = sorted((small / "photos").iterdir())[0]
    assert whence("database", "remove", first, "--db", path, "--json") == 0
    assert whence("database", "check", "--db", path, "--json") == 0
    assert whence("database", "export", small / "out", "--db", path, "--json") == 0
    assert whence("database", "import", small / "out", "--db", small / "d.whence", "--json") == 0
    assert whence("database", "merge", small / "d.whence", "--db", path, "--json") == 0
    assert whence("database", "refit", "--db", path, "--json") == 0
    capsys.readouterr()
    assert whence("database", "remove", "nothing.jpg", "--db", path) == 1
    assert "0 photos removed" in capsys.readouterr().out
    assert whence("database", "check", "--db", path) == 0
    assert "is sound" in capsys.readouterr().out


def test_index_finds_damage(small: Path, capsys: Capture) -> None:
    path = small / "c.whence"
    assert whence("index", small / "photos", "--db", path, "-q") == 0
    segment = max(path.glob("*.npy"), key=lambda file: file.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[-5] ^= 0xFF
    segment.write_bytes(bytes(data))
    capsys.readouterr()
    assert whence("database", "check", "--db", path, "--json") == 1
    assert segment.name in " ".join(lines_of(capsys)[0]["problems"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("index",),
        ("database", "refresh", "--db", "nowhere"),
        ("index", "nowhere"),
        ("index", "photos", "--option", "x"),
        ("locate", "x.jpg"),
    ],
)
def test_errors_exit_with_1_and_a_message(
    arguments: tuple[str, ...], small: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small)
    assert whence(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_usage_errors_exit_with_2(capsys: Capture) -> None:
    assert whence("locate") == 2
    assert whence("nonsense") == 2
    assert whence("locate", "--no-such-option") == 2
    assert "whence locate --help" in capsys.readouterr().err
    assert whence() == 0
    assert "locate" in capsys.readouterr().out
    assert whence("--version") == 0


def test_locate_one(city: Path, street: Path, capsys: Capture) -> None:
    query = sorted((street / "queries").iterdir())[4]
    assert whence("locate", query, "--db", city, "--json", "-k", "7") == 0
    answer = lines_of(capsys)[0]
    assert set(answer) >= {"query", "status", "confidence", "position", "candidates", "seconds"}
    assert answer["query"] == str(query)
    assert set(answer["position"]) >= {"lat", "lon", "radius_m", "heading_deg"}
    assert len(answer["candidates"]) == 7
    assert set(answer["candidates"][0]) >= {
        "photo",
        "rank",
        "similarity",
        "num_inliers",
        "lat",
        "lon",
    }
    assert [one["rank"] for one in answer["candidates"]] == list(range(1, 8))
    assert whence("locate", query, "--db", city) == 0
    text = capsys.readouterr().out
    assert "0004r0" in text


def test_answers_are_kept_in_a_journal(
    city: Path, street: Path, tmp_path: Path, capsys: Capture
) -> None:
    """By option or by setting; with the photo's own time, a word for the weather, and what
    answered."""
    queries, file = sorted((street / "queries").iterdir())[4:6], tmp_path / "log.journal"
    assert (
        whence(
            "locate",
            queries[0],
            "--db",
            city,
            "--journal",
            file,
            "--weather",
            "rain",
            "--no-verify",
        )
        == 0
    )
    assert whence("locate", queries[0], "--db", city, "--weather", "rain") == 1
    assert "--journal" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WHENCE_JOURNAL", str(file))
        assert whence("locate", queries[1], "--db", city, "--json", "--no-verify") == 0
    (answer,) = lines_of(capsys)
    with Journal.open(file, is_new=False) as journal:
        first, second = journal
    assert (first.position.query, first.weather, second.weather) == (str(queries[0]), "rain", "")
    assert (second.position.point.lat, second.store) == (answer["position"]["lat"], city.name)
    assert first.model
    assert abs(second.asked_at - time.time()) < 600


def test_locate_a_folder_into_files(
    city: Path, street: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(street / "queries", tmp_path / "q")
    (tmp_path / "q" / "broken.jpg").write_bytes(b"")
    out = ("--csv", tmp_path / "a.csv", "--geojson", tmp_path / "a.geojson")
    assert whence("locate", tmp_path / "q", "--db", city, "--json", *out) == 0
    answers = lines_of(capsys)
    assert len(answers) == 24
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert float(rows[0]["lat"]) == pytest.approx(answers[0]["position"]["lat"])
    features = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"]
    assert features[0]["geometry"]["coordinates"] == [
        answers[0]["position"]["lon"],
        answers[0]["position"]["lat"],
    ]
    assert whence("locate", tmp_path / "q", "--db", city) == 0
    captured = capsys.readouterr()
    assert captured.out.count("located") == 24
    assert "broken.jpg" in captured.err


def test_an_unknown_place_exits_with_3(city: Path, street: Path, capsys: Capture) -> None:
    query = sorted((street / "queries").iterdir())[0]
    assert whence("locate", query, "--db", city, "--near", "0,0", "--within", "100", "--json") == 3
    answer = lines_of(capsys)[0]
    assert (answer["status"], answer["position"], answer["candidates"]) == ("unknown", None, [])
    assert (
        whence(
            "locate", street / "queries", "--db", city, "--near", "0,0", "--within", "100", "--json"
        )
        == 0
    )


def test_the_geographic_filter_takes_effect(city: Path, street: Path, capsys: Capture) -> None:
    query = sorted((street / "queries").iterdir())[0]
    assert (
        whence("locate", query, "--db", city, "--near", "59.32,18.07", "--within", "130", "--json")
        == 0
    )
    assert len(lines_of(capsys)[0]["candidates"]) == 3
    for wrong in (
        ("--near", "59.32,18.07"),
        ("--within", "5"),
        ("--near", "here", "--within", "5"),
        ("--near", "99,0", "--within", "5"),
    ):
        assert whence("locate", query, "--db", city, *wrong) == 1


def test_locate_where_there_is_nothing(city: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in ("missing.jpg", tmp_path / "empty"):
        assert whence("locate", wrong, "--db", city) == 1
    (tmp_path / "text.jpg").write_text("hello")
    assert whence("locate", tmp_path / "text.jpg", "--db", city) == 1
    assert "text.jpg" in capsys.readouterr().err
    assert whence("locate", tmp_path / "text.jpg", "--db", tmp_path / "none.whence") == 1


def test_evaluate(street: Path, tmp_path: Path, capsys: Capture) -> None:
    saved = ("--save-predictions", tmp_path / "p.csv", "--save-predictions", tmp_path / "p.txt")
    assert (
        whence(
            "evaluate",
            street,
            "--json",
            "--set",
            "thresholds_m=5,25",
            "--set",
            "recall_at=1,3",
            *saved,
        )
        == 0
    )
    first = lines_of(capsys)[0]
    assert first["recalls"][0]["threshold_m"] == 5
    assert {one["n"] for one in first["recalls"]} == {1, 3}
    for file in ("p.csv", "p.txt"):
        assert (
            whence(
                "evaluate",
                street,
                "--predictions",
                tmp_path / file,
                "--json",
                "--set",
                "thresholds_m=5,25",
                "--set",
                "recall_at=1,3",
            )
            == 0
        )
        assert lines_of(capsys)[0]["recalls"] == first["recalls"]
    assert whence("evaluate", street) == 0
    text = capsys.readouterr().out
    assert "protocol: a positive lies within the threshold" in text
    assert "recall@20" in text
    assert (
        whence(
            "evaluate", street / "database", "--leave-one-out", "--set", "thresholds_m=70", "--json"
        )
        == 0
    )
    assert whence("evaluate", street, "--set", "thresholds_m=a") == 1
    assert whence("evaluate", street, "--leave-one-out", "--set", "frames=2") == 1
    assert whence("evaluate", street / "database") == 1


def test_models(capsys: Capture) -> None:
    assert whence("models", "--json") == 0
    names = [card["name"] for card in lines_of(capsys)]
    assert names == sorted(names)
    assert {"rootsift-vlad", "densevlad"} <= set(names)
    assert whence("models", "*vlad") == 0
    assert "densevlad" in capsys.readouterr().out
    assert whence("models", "densevlad") == 0
    assert "citation" in capsys.readouterr().out
    assert whence("models", "--licence", "eupl", "--json") == 0
    assert lines_of(capsys) == []
    assert whence("models", "densvlad") == 1
    assert "did you mean 'densevlad'" in capsys.readouterr().err


def test_doctor(city: Path, tmp_path: Path, capsys: Capture) -> None:
    assert whence("doctor", "--db", city, "--json") == 0
    findings = {one["what"]: one for one in lines_of(capsys)[0]["findings"]}
    assert findings["describe and search"]["is_fine"]
    assert findings[f"database {city}"]["is_fine"]
    assert whence("doctor", "--db", tmp_path) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_demo(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert whence("demo", tmp_path / "d", "--preset", "tiny", "--json") == 0
    first = lines_of(capsys)[0]
    assert first["data"] == "rendered"
    assert first["num_queries"] > 0
    has_torch = importlib.util.find_spec("torch") is not None
    compared = first["rerank"]
    assert list(compared["recalls"]) == [
        "no re-ranking",
        *(["geowarp-resnet18conv4"] if has_torch else []),
        "inliers",
    ]
    assert len({found["recall@5 within 25 m"] for found in compared["recalls"].values()}) == 1, (
        "the first five are the same"
    )
    assert set(compared["weights"]) == (
        {compared["model"], "geowarp-resnet18conv4"} if has_torch else set()
    )
    monkeypatch.setitem(sys.modules, "torch", None)
    assert whence("demo", tmp_path / "d", "--preset", "tiny") == 0
    text = capsys.readouterr().out
    assert "whence locate" in text
    assert "rendered photos" in text
    assert 'need torch: pip install "whence-vpr[torch]"' in text
    assert "GeoWarp  " not in text


def test_the_installed_command_and_a_closed_pipe(city: Path, street: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from whence.__main__ import main; main()",
        "locate",
        str(street / "queries"),
        "--db",
        str(city),
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["status"]
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    assert whence("models") == 130
    assert "again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123456, "123 kB"), (2.5e9, "2.5 GB")],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert as_size(int(size)) == text


def test_around_needs_both_halves() -> None:
    from whence.localize.questions import parse_around

    assert parse_around(None, None) is None
    with pytest.raises(BadOption):
        parse_around("1,2,3", 5.0)
