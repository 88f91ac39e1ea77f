"""Threads, progress, atomic writes, settings, registry, errors."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

from whence import registry, runtime
from whence.errors import (
    BadOption,
    InputError,
    MissingExtra,
    StoreFull,
    UnknownName,
    UnreadableImage,
    UnreadableTable,
    UnwritableFile,
    WhenceError,
)
from whence.models.checkpoints.origins import weights_status
from whence.settings import BuildOptions, Settings, load_settings, parse_options


def test_results_come_in_order_and_work_is_not_far_ahead() -> None:
    taken: list[int] = []

    def numbers():
        for i in range(40):
            taken.append(i)
            yield i

    results = runtime.map_threads(
        lambda n: (time.sleep(0.002 * (n % 3)), n)[1], numbers(), num_workers=4
    )
    assert [next(results) for _ in range(5)] == list(range(5))
    assert len(taken) <= 5 + 3 * 4
    assert list(results) == list(range(5, 40))


def test_an_error_in_a_thread_arrives() -> None:
    with pytest.raises(ZeroDivisionError):
        list(runtime.map_threads(lambda n: 1 // n, [1, 0, 2], num_workers=2))
    assert list(runtime.map_threads(str, [], num_workers=2)) == []
    assert list(runtime.map_threads(str, [1, 2], num_workers=1)) == ["1", "2"]


def test_thread_counts_are_put_back() -> None:
    import cv2
    import faiss
    from threadpoolctl import threadpool_info

    def of_products() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = faiss.omp_get_max_threads(), cv2.getNumThreads(), of_products()
    with runtime.threads(2):
        assert faiss.omp_get_max_threads() == 2
        assert of_products() == {2}
    assert (faiss.omp_get_max_threads(), cv2.getNumThreads(), of_products()) == before
    assert before[2] == {1}, "as the tests ask for"
    assert runtime.num_cores() >= 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with runtime.atomic_write(target, "w") as file:
        file.write("old ä")
    with pytest.raises(RuntimeError, match="stopped"), runtime.atomic_write(target, "w") as file:  # noqa: PT012
        file.write("half")
        raise RuntimeError("stopped")
    assert target.read_text(encoding="utf-8") == "old ä"
    assert os.listdir(tmp_path) == ["file.txt"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~runtime.current_umask()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UnwritableFile, match="nowhere") as caught,
        runtime.atomic_write(tmp_path / "nowhere" / "x"),
    ):
        pass
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == 2


def test_a_folder_is_claimed_once_and_says_whose_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    record = {"recipe": {"lr": 0.1}, "names": ["a"]}
    assert (
        runtime.claim_folder(folder, record, name="recipe.json", beside=lambda: {"versions": 1})
        is None
    )
    assert [file.name for file in folder.iterdir()] == ["recipe.json"]
    assert runtime.claim_folder(folder, {"recipe": 2}, name="recipe.json") == {
        **record,
        "versions": 1,
    }, "the first record stays"
    (tmp_path / "empty").mkdir()
    assert runtime.claim_folder(tmp_path / "empty", record, name="recipe.json") is None
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".recipe.json.x1y2.part").touch()
    assert runtime.claim_folder(tmp_path / "killed", record, name="recipe.json") is None, (
        "what a killed process left is no other thing"
    )


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null", "[" * 5000, b"\xff\xfe"])
def test_a_folders_record_that_is_none_is_named(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "study.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(InputError, match=r"cannot read .*study\.json"):
        runtime.claim_folder(tmp_path, {}, name="study.json")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(
            InputError,
            match=r"is not an empty folder and holds no world\.json; choose another folder",
        ):
            runtime.claim_folder(place, {}, name="world.json")
    assert os.listdir(tmp_path) == ["letter.txt"]
    (tmp_path / "world.json").mkdir()
    with pytest.raises(InputError, match="choose another folder"):
        runtime.claim_folder(tmp_path, {}, name="world.json")


def test_chunks_are_read_as_they_are_asked_for() -> None:
    numbers = iter(range(7))
    chunks = runtime.in_chunks(numbers, 3)
    assert next(chunks) == [0, 1, 2]
    assert next(numbers) == 3
    assert list(chunks) == [[4, 5, 6]]


def test_who_watches_is_told_and_may_end_the_work() -> None:
    told: list[tuple[str, int, int | None]] = []

    def watcher(label: str, num_done: int, num_total: int | None) -> None:
        told.append((label, num_done, num_total))
        if num_done == 3:
            raise KeyboardInterrupt

    def count() -> None:
        with runtime.progress("counting", total=9, show=False) as advance:
            for _ in range(9):
                advance(1)

    with runtime.watching(watcher), pytest.raises(KeyboardInterrupt):
        count()
    count()
    assert told == [("counting", 1, 9), ("counting", 2, 9), ("counting", 3, 9)], (
        "nobody is told after the watch has ended"
    )


def test_progress_on_and_off(capsys: pytest.CaptureFixture[str]) -> None:
    with runtime.progress("counting", total=3, show=False) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    with runtime.progress("counting", total=3, show=True) as advance:
        advance(3)
    assert capsys.readouterr().out == ""


def test_random_streams_depend_on_all_keys() -> None:
    draws = {
        tuple(runtime.random_stream(*keys).integers(0, 10**9, 3))
        for keys in [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)]
    }
    assert len(draws) == 5
    assert runtime.random_stream(5, 6).random() == runtime.random_stream(5, 6).random()
    assert [len(part) for part in runtime.in_batches(list(range(7)), 3)] == [3, 3, 1]


def test_flags_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()
    (tmp_path / "whence.toml").write_text(
        'database = "file.whence"\nthreads = 3\nmodel = "densevlad"\n'
    )
    environ = {"WHENCE_DATABASE": "env.whence", "WHENCE_OFFLINE": "yes", "WHENCE_THREADS": "5"}
    found = load_settings(flags={"database": "flag.whence", "model": None}, environ=environ)
    assert found == Settings(database="flag.whence", model="densevlad", threads=5, offline=True)
    assert load_settings(environ={"WHENCE_OFFLINE": "0"}).offline is False
    (tmp_path / "whence.toml").write_text('threads = "4"\noffline = 1\n')
    assert load_settings(environ={}) == Settings(threads=4, offline=True), (
        "what the environment may say, the file may"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("datbase = 1", UnknownName),
        ("database = ", UnreadableTable),
        ('threads = "many"', BadOption),
        ('offline = "maybe"', BadOption),
        ("threads = 2.5", BadOption),
        ("threads = true", BadOption),
        ("database = 3", BadOption),
        ("offline = 2", BadOption),
    ],
)
def test_broken_settings_files(tmp_path: Path, text: str, error: type[WhenceError]) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(error):
        load_settings(environ={"WHENCE_CONFIG": str(tmp_path / "s.toml")})


def test_other_ways_to_be_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable):
        load_settings(environ={}, file=tmp_path / "none.toml")
    with pytest.raises(UnknownName, match="threads"):
        load_settings(flags={"thread": 1}, environ={})
    with pytest.raises(BadOption):
        BuildOptions(dtype="float8")
    with pytest.raises(BadOption):
        BuildOptions(commit_photos=0)


def test_options_from_text() -> None:
    assert parse_options(["a=3", "b = [1, 2]", "c=word", "d=true", "e=a=b"]) == {
        "a": 3,
        "b": [1, 2],
        "c": "word",
        "d": True,
        "e": "a=b",
    }
    for wrong in ("noequals", "=3"):
        with pytest.raises(BadOption):
            parse_options([wrong])


def test_the_registry_builds_every_part_and_names_the_nearest() -> None:
    for name in registry.list_models():
        card = registry.get_card(name)
        if weights_status(card) == "none needed" and (
            not card.backbone or importlib.util.find_spec("torch")
        ):
            assert registry.build("model", name).dim == card.dim
        assert card.name == name
        assert card.card_id == f"{name}.v{card.version}"
        for value in (card.summary, card.licence, card.weights, card.training_data, card.citation):
            assert value
    for name in registry.INDEXES:
        assert registry.build("index", name, options={"dim": 4}).num_vectors == 0
    with pytest.raises(UnknownName) as caught:
        registry.get_entry("model", "dense-vlad")
    assert caught.value.nearest[0] == "densevlad"
    with pytest.raises(UnknownName, match="known"):
        registry.get_entry("index", "zzzzzzz")


def test_the_registry_imports_nothing_heavy() -> None:
    import subprocess

    heavy = ("cv2", "faiss", "PIL", "rich", "typer")
    code = (
        f"import whence.registry, whence.types, sys; print([m for m in {heavy} if m in "
        "sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_messages_name_file_and_fix() -> None:
    assert "'a b.jpg'" in str(UnreadableImage("a b.jpg", "empty file"))
    assert "line 7" in str(UnreadableTable("x.csv", "bad", line=7))
    assert "whence-vpr[heic]" in str(MissingExtra("HEIC", "heic"))
    assert "x.whence" in str(StoreFull("x.whence", "no space"))
    assert issubclass(UnreadableImage, WhenceError)
