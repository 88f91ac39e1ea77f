"""Files of weights from a local server: whole or not at all, going on after a break, checked, and
never without leave."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from whence import cli
from whence.cards import ModelCard, Origin
from whence.errors import DownloadFailed, MissingWeights, UnreadableWeights, UnwritableFile
from whence.models.checkpoints import http
from whence.models.checkpoints import origins as downloads
from whence.models.checkpoints.http import download, sha256_of
from whence.models.checkpoints.origins import (
    find_weights,
    get_weights,
    weights_folder,
    weights_status,
)
from whence.registry import get_card

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CARD = ModelCard(
    name="made-up-4",
    summary="",
    dim=4,
    preprocessing=get_card("cosplace-resnet18-512").preprocessing,
    licence="MIT",
    backbone="resnet18conv4",
)


@dataclass
class Behaviour:
    """What the server does, and what was asked of it."""

    content: bytes = CONTENT
    knows_ranges: bool = True
    tag: str = '"one"'
    break_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    status: int = 200
    kind: str = "application/octet-stream"
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[tuple[Behaviour, str]]:
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.ranges.append(asked)
            if behaviour.status != 200:
                self.send_error(behaviour.status)
                return
            start = 0
            if asked and behaviour.knows_ranges and self.headers.get("If-Range") == behaviour.tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            body = behaviour.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range",
                    f"bytes {start}-{len(behaviour.content) - 1}/{len(behaviour.content)}",
                )
            self.send_header("Content-Type", behaviour.kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", behaviour.tag)
            self.end_headers()
            self.wfile.write(
                body[: behaviour.break_after.pop(0)] if behaviour.break_after else body
            )

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield behaviour, f"http://127.0.0.1:{running.server_port}/weights.pth"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)
    return tmp_path / "cache" / "weights"


def card_of(address: str, **changes: object) -> ModelCard:
    return replace(CARD, origins=(replace(Origin("url", address, "made.pth"), **changes),))


def test_a_download_is_whole_and_leaves_nothing_beside_it(
    server: tuple[Behaviour, str], cache: Path
) -> None:
    download(server[1], cache / "a.pth", sha256=SHA256)
    assert (cache / "a.pth").read_bytes() == CONTENT
    assert os.listdir(cache) == ["a.pth"]


@pytest.mark.parametrize("breaks", [[1_000_000], [1, 2_000_000], [0, 0]])
def test_a_broken_download_goes_on(
    server: tuple[Behaviour, str], cache: Path, breaks: list[int]
) -> None:
    behaviour, address = server
    behaviour.break_after = list(breaks)
    download(address, cache / "a.pth", sha256=SHA256)
    assert (cache / "a.pth").read_bytes() == CONTENT
    assert len(behaviour.ranges) == len(breaks) + 1
    have = sum(breaks)
    assert behaviour.ranges[-1] == (f"bytes={have}-" if have else None)


def test_a_later_process_goes_on(server: tuple[Behaviour, str], cache: Path) -> None:
    behaviour, address = server
    behaviour.break_after = [1_000_000, 0, 0]
    with pytest.raises(DownloadFailed, match=r"1\.0 MB are kept"):
        download(address, cache / "a.pth")
    assert not (cache / "a.pth").exists()
    download(address, cache / "a.pth", sha256=SHA256)
    assert (cache / "a.pth").read_bytes() == CONTENT
    assert behaviour.ranges[-1] == "bytes=1000000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: tuple[Behaviour, str], cache: Path
) -> None:
    behaviour, address = server
    behaviour.break_after = [1_000_000, 0, 0]
    with pytest.raises(DownloadFailed):
        download(address, cache / "a.pth")
    behaviour.content, behaviour.tag = CONTENT[::-1], '"two"'
    download(address, cache / "a.pth")
    assert (cache / "a.pth").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_begins_anew(server: tuple[Behaviour, str], cache: Path) -> None:
    behaviour, address = server
    behaviour.knows_ranges, behaviour.break_after = False, [1_000_000]
    download(address, cache / "a.pth", sha256=SHA256)
    assert (cache / "a.pth").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_removed(
    server: tuple[Behaviour, str], cache: Path
) -> None:
    with pytest.raises(DownloadFailed, match="checksum"):
        download(server[1], cache / "a.pth", sha256="0" * 64)
    assert os.listdir(cache) == []


def test_a_server_that_refuses_is_named(server: tuple[Behaviour, str], cache: Path) -> None:
    behaviour, address = server
    behaviour.status = 404
    with pytest.raises(DownloadFailed, match=f"{address}: the server answered 404"):
        download(address, cache / "a.pth")
    assert behaviour.ranges == [None], "what is not there is not asked for again"
    assert os.listdir(cache) == [], "nothing is left of nothing"


def test_a_web_page_is_no_file(server: tuple[Behaviour, str], cache: Path) -> None:
    behaviour, address = server
    behaviour.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadFailed, match="web page"):
        download(address, cache / "a.pth")
    assert os.listdir(cache) == []


@pytest.mark.parametrize("kind", ["url", "drive", "hub"])
def test_a_first_download_without_a_network_says_which_file_goes_where(
    kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_DRIVE", "http://127.0.0.1:1/{}")
    if kind == "hub":
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(
            hub, "hf_hub_download", lambda *_names: (_ for _ in ()).throw(OSError("no connection"))
        )
    address = {"url": "http://127.0.0.1:1/made.pth", "drive": "abc", "hub": "owner/model"}[kind]
    card = replace(CARD, origins=(Origin(kind, address, "made.pth"),))
    with pytest.raises(DownloadFailed) as caught:
        get_weights(card)
    message = str(caught.value)
    assert f"put it at '{cache / 'made.pth'}'" in message
    assert address in message
    assert "weights=FILE" in message
    assert caught.value.reason


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://127.0.0.1:1/x", "nonsense"]
)
def test_other_addresses_and_dead_servers(address: str, cache: Path) -> None:
    with pytest.raises(DownloadFailed):
        download(address, cache / "a.pth")
    assert not (cache / "a.pth").exists()


def test_a_disk_too_small_is_told_before(
    server: tuple[Behaviour, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        downloads.shutil, "disk_usage", lambda _folder: types.SimpleNamespace(free=1000)
    )
    with pytest.raises(UnwritableFile, match="make room") as caught:
        download(server[1], cache / "a.pth")
    assert caught.value.errno == errno.ENOSPC
    assert not (cache / "a.pth").exists()


@pytest.mark.skipif(
    sys.platform != "linux", reason="limits of file size are tested where the system has them"
)
def test_a_disk_that_fills_up_keeps_what_came(
    server: tuple[Behaviour, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_copy = http._copy

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            if self.tell() >= 1 << 20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def copy_to_full(response: object, file: io.BufferedWriter, **options: object) -> None:
        with Full(file.name, "ab") as full:
            whole_copy(response, full, **options)

    monkeypatch.setattr(http, "_copy", copy_to_full)
    with pytest.raises(UnwritableFile, match="make room"):
        download(server[1], cache / "a.pth")
    monkeypatch.setattr(http, "_copy", whole_copy)
    download(server[1], cache / "a.pth", sha256=SHA256)
    assert server[0].ranges[-1] == f"bytes={1 << 20}-"


def test_two_downloads_of_one_file_do_not_mix(server: tuple[Behaviour, str], cache: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    cache.mkdir(parents=True)
    with open(cache / "a.pth.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadFailed, match="another process"):
            download(server[1], cache / "a.pth")
    download(server[1], cache / "a.pth", sha256=SHA256)


def test_weights_are_fetched_once_and_pinned(server: tuple[Behaviour, str], cache: Path) -> None:
    behaviour, address = server
    card = card_of(address)
    assert weights_status(card) == "missing"
    assert get_weights(card) == (cache / "made.pth",) == get_weights(card)
    assert len(behaviour.ranges) == 1
    assert weights_status(card) == "pinned"
    assert json.loads((cache / "checksums.json").read_text())["made.pth"]["sha256"] == SHA256
    (cache / "made.pth").write_bytes(CONTENT + b"more")
    assert weights_status(card) == "unverified"
    with pytest.raises(UnreadableWeights, match="another file than at its first use"):
        get_weights(card)


def test_a_published_checksum_is_held_to(server: tuple[Behaviour, str], cache: Path) -> None:
    card = card_of(server[1], sha256=SHA256)
    get_weights(card)
    assert weights_status(card) == "verified"
    other = card_of(server[1], sha256="1" * 64)
    (cache / "checksums.json").unlink()
    with pytest.raises(UnreadableWeights, match="the published one is 1111"):
        get_weights(other)


def test_a_broken_table_of_checksums_is_named(server: tuple[Behaviour, str], cache: Path) -> None:
    get_weights(card_of(server[1]))
    (cache / "checksums.json").write_text("[1")
    with pytest.raises(UnreadableWeights, match=r"checksums\.json.*remove it"):
        get_weights(card_of(server[1]))


def test_offline_nothing_is_asked_for(
    server: tuple[Behaviour, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    with pytest.raises(MissingWeights) as caught:
        get_weights(card_of(server[1]))
    assert server[0].ranges == []
    message = str(caught.value)
    assert "offline" in message
    assert server[1] in message
    assert str(cache / "made.pth") in message
    cache.mkdir(parents=True)
    (cache / "made.pth").write_bytes(CONTENT)
    assert get_weights(card_of(server[1])) == (cache / "made.pth",)


def test_what_only_a_person_can_get_is_said(cache: Path) -> None:
    with pytest.raises(MissingWeights, match="rsync") as caught:
        get_weights(get_card("earthloc-resnet50-4096"))
    assert str(cache) in str(caught.value)


def test_a_file_named_comes_first(tmp_path: Path, server: tuple[Behaviour, str]) -> None:
    mine = tmp_path / "mine.pth"
    with pytest.raises(MissingWeights, match=r"no file .*mine\.pth"):
        get_weights(card_of(server[1]), weights=mine)
    mine.write_bytes(b"x")
    assert get_weights(card_of(server[1]), weights=mine) == (mine,)
    assert server[0].ranges == []


def test_converted_weights_come_before_the_authors(cache: Path) -> None:
    card = card_of("http://127.0.0.1:1/x")
    cache.mkdir(parents=True)
    (cache / "made.pth").write_bytes(b"theirs")
    assert find_weights(card) == cache / "made.pth"
    (cache / "made-up-4.safetensors").write_bytes(b"ours")
    assert find_weights(card) == cache / "made-up-4.safetensors"


def packed(kind: str, name: str) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr(name, b"inside")
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = 6
            archive.addfile(entry, io.BytesIO(b"inside"))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["folder/a.pth", "outer/folder/a.pth"])
def test_one_file_is_taken_out_of_an_archive(
    server: tuple[Behaviour, str], cache: Path, kind: str, name: str
) -> None:
    behaviour, address = server
    behaviour.content = packed(kind, name)
    card = card_of(address, archive="all.archive", source_file="folder/a.pth")
    (found,) = get_weights(card)
    assert found == cache / "made.pth"
    assert found.read_bytes() == b"inside"
    found.unlink()
    (cache / "checksums.json").unlink()
    get_weights(card)
    assert len(behaviour.ranges) == 1, "the archive serves its other files too"


@pytest.mark.parametrize(
    "content",
    [packed("zip", "other.pth"), b"no archive", packed("tar", "folder/a.pth")[:60]],
    ids=["another file", "no archive", "cut short"],
)
def test_archives_without_the_file(
    server: tuple[Behaviour, str], cache: Path, content: bytes
) -> None:
    behaviour, address = server
    behaviour.content = content
    with pytest.raises(UnreadableWeights, match=r"all\.archive"):
        get_weights(card_of(address, archive="all.archive", source_file="folder/a.pth"))
    assert not (cache / "made.pth").exists()


def test_drive_ids_become_addresses(
    server: tuple[Behaviour, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(downloads, "_DRIVE", server[1] + "?id={}")
    monkeypatch.setattr(
        downloads,
        "download",
        lambda address, target, **options: (asked.append(address), download(address, target)),
    )
    get_weights(replace(CARD, origins=(Origin("drive", "abc", "made.pth"),)))
    assert asked == [server[1] + "?id=abc"]
    assert (cache / "made.pth").read_bytes() == CONTENT


def test_the_hub_is_asked_through_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = replace(
        CARD,
        origins=(
            Origin("hub", "owner/model", "owner.safetensors", source_file="model.safetensors"),
        ),
    )
    asked = []

    def fetch(repository: str, name: str) -> str:
        asked.append((repository, name))
        (tmp_path / name).write_bytes(b"x")
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    assert get_weights(card) == (tmp_path / "model.safetensors",)
    assert asked == [("owner/model", "model.safetensors")]
    monkeypatch.setattr(
        hub, "hf_hub_download", lambda *_names: (_ for _ in ()).throw(OSError("no such repository"))
    )
    with pytest.raises(DownloadFailed, match="owner/model: no such repository"):
        get_weights(card)
    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda *_names: str(tmp_path / "model.safetensors")
    )
    assert find_weights(card) == tmp_path / "model.safetensors"


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert weights_folder({"WHENCE_CACHE": str(tmp_path)}) == tmp_path / "weights"
    assert weights_folder({}) == Path.home() / ".cache" / "whence" / "weights"


def test_checksums_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "a") == SHA256


def test_a_model_without_its_file_says_what_to_do(
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    for arguments in (
        [
            "index",
            str(street / "database"),
            "--db",
            str(tmp_path / "a.whence"),
            "--model",
            "cosplace-resnet18-512",
        ],
        ["evaluate", str(street), "--model", "cosplace-resnet18-512"],
    ):
        assert cli.run(arguments) == 1
        message = capsys.readouterr().err
        assert (
            "https://github.com/gmberton/CosPlace/releases/download/v1.0/ResNet18_512_cosplace.pth"
            in message
        )
        assert "Traceback" not in message
