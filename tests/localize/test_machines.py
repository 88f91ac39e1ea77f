"""Describing on a cluster: the database of one process, workers that are killed, photos that are
sent, and what is refused."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed.comm import CommClosedError

from whence import cli
from whence.errors import BadOption, InputError
from whence.index.store import Store
from whence.localize.build import build_database
from whence.localize.machines import Machines
from whence.settings import BuildOptions

OPTIONS = BuildOptions(commit_photos=7)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    with Machines("local:2") as found:
        yield found


@pytest.fixture(scope="module")
def photos(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The street's photos, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    for file in sorted((street / "database").iterdir()):
        (folder / file.name).symlink_to(file)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"no photo" * 9)
    return folder


@pytest.fixture(scope="module")
def alone(photos: Path) -> Path:
    """The database that one process makes."""
    build_database(
        [photos], path=photos.parent / "alone.whence", options=OPTIONS, show_progress=False
    )
    return photos.parent / "alone.whence"


def same(first: Path, second: Path) -> bool:
    """Whether two databases hold the same photos with the same numbers."""
    with Store.open(first) as one, Store.open(second) as other:
        order = [np.argsort(store.contents) for store in (one, other)]
        descriptors = [
            store.descriptors[rows] for store, rows in zip((one, other), order, strict=True)
        ]
        contents = [
            store.contents[rows].tolist() for store, rows in zip((one, other), order, strict=True)
        ]
        return (
            contents[0] == contents[1]
            and np.array_equal(*descriptors)
            and sorted(one.photos.paths) == sorted(other.photos.paths)
        )


@pytest.mark.parametrize("sends_photos", [False, True])
def test_the_database_is_that_of_one_process(
    cluster: Machines, photos: Path, alone: Path, sends_photos: bool, tmp_path: Path
) -> None:
    cluster.sends_photos = sends_photos
    path = photos.parent / f"sent {sends_photos}.whence"
    report = build_database(
        [photos], path=path, options=OPTIONS, show_progress=False, machines=cluster
    )
    assert [Path(entry.path).name for entry in report.skipped] == ["broken.jpg"]
    assert same(alone, path)
    again = build_database(
        [photos], path=path, options=OPTIONS, show_progress=False, machines=cluster
    )
    assert again.num_described == 0


def test_workers_that_are_killed_are_replaced(cluster: Machines, photos: Path, alone: Path) -> None:
    """Twice, while batches are out: the nanny starts another, and what it had is given away
    again."""
    cluster.sends_photos = False
    is_over, killed = threading.Event(), []

    def kill() -> None:
        while not is_over.is_set() and len(killed) < 2:
            pids = list(cluster.client.run(os.getpid).values())
            if pids and pids[0] not in killed:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
            time.sleep(0.3)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        path = photos.parent / "killed.whence"
        report = build_database(
            [photos], path=path, options=OPTIONS, show_progress=False, machines=cluster
        )
    finally:
        is_over.set()
        killer.join(30)
    assert killed
    assert len(report.skipped) == 1
    assert same(alone, path)


def test_a_worker_that_dies_while_all_are_told(
    cluster: Machines, photos: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler then hangs up on who told it."""
    monkeypatch.setattr("whence.localize.machines.PAUSE_S", 0)
    cluster.sends_photos = False
    tell, times = cluster.client.register_plugin, []

    def hung_up(*given: object, **more: object) -> object:
        times.append(given)
        if len(times) < 3:
            raise CommClosedError("Stream is closed")
        return tell(*given, **more)

    monkeypatch.setattr(cluster.client, "register_plugin", hung_up)
    path = photos.parent / "hung up.whence"
    build_database([photos], path=path, options=OPTIONS, show_progress=False, machines=cluster)
    assert len(times) == 3
    assert same(alone, path)
    monkeypatch.setattr("whence.localize.machines.MOST_TRIES", 2)
    times.clear()
    with pytest.raises(InputError, match="cannot be told"):
        build_database(
            [photos],
            path=photos.parent / "never.whence",
            options=OPTIONS,
            show_progress=False,
            machines=cluster,
        )


def test_what_is_no_cluster_is_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadOption, match="tcp://"):
        Machines("nowhere")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("whence.localize.machines.ANSWER_S", 1)
        with pytest.raises(InputError, match="does not answer"):
            Machines("tcp://127.0.0.1:9")
    assert (
        cli.run(
            ["index", str(photos), "--db", str(tmp_path / "a.whence"), "--set", "sends_photos=true"]
        )
        == 1
    )
    assert "--cluster" in capsys.readouterr().err
