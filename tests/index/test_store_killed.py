"""A writer killed at any moment: the database opens, holds the state before or after a commit, and
the rest of the work gives the same database as a run that nobody killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whence.index.audit import problems
from whence.index.files import left_overs
from whence.index.store import Store

WORKLOAD = '''
import json, os, signal, sys
import numpy as np
from whence.data.photos import Photos
from whence.index import files, ledger
from whence.index.audit import fingerprint
from whence.index.store import Store
from whence.types import Photo

folder, call, at, when = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
ledger.FAN_OUT = 3
calls = []


def trap(module, name):
    real = getattr(module, name)

    def trapped(*args, **kwargs):
        calls.append(name)
        is_now = calls.count(call) == at and name == call
        if is_now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if is_now and when == "within" and name == "write_array":
            args[0].write(b"half of a file")
            args[0].flush() if hasattr(args[0], "flush") else None
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if is_now and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, trapped)


trap(os, "replace")
trap(os, "fsync")
trap(os, "unlink")
trap(np.lib.format, "write_array")


def put(store, numbers):
    photos = Photos.of([Photo(path=f"p/{n}.jpg", content=f"{n:032x}", width=n) for n in numbers])
    rows = np.array([np.random.default_rng(n).normal(size=8) for n in numbers], dtype=np.float32)
    store.add(photos, contents=photos.content, descriptors=rows)


def step(store, number):
    """One step of the work; doing it twice is doing it once."""
    if number in (0, 1, 2, 3, 4, 7, 8):
        put(store, range(10 * number, 10 * number + 10))
    elif number == 5:
        store.remove([f"p/{n}.jpg" for n in range(5, 15)])
    elif number == 6:
        store.write_blob("state", {"x": np.arange(5)})
        keys = [f"{n:032x}" for n in range(20, 30)]
        store.write_cache("sift.v1", keys, [{"k": np.full((n, 2), n)} for n in range(20, 30)])
    elif number == 9:
        store.compact()
    elif number == 10:
        put(store, range(100, 105))
    elif number == 11:
        store.write_blob("state", {"x": np.arange(6)})
        store.compact()


if not os.path.exists(os.path.join(folder, "manifest.json")):
    Store.create(folder, card_id="m.v1", dim=8, options={"done": 0}).close()
with Store.open(folder, writable=True) as store:
    for number in range(store.options["done"], 12):
        step(store, number)
        store.set_options({"done": number + 1})
    counts = {name: calls.count(name) for name in set(calls)}
    print(json.dumps({"fingerprint": fingerprint(store), "calls": counts}))
'''


def run(
    folder: Path, call: str = "none", at: int = 0, when: str = "before"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WORKLOAD, str(folder), call, str(at), when]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """What a run that nobody kills says, and how many system calls it makes."""
    done = run(tmp_path_factory.mktemp("whole") / "s")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MOMENTS = [
    ("replace", 0.0, "before"),  # before the first manifest is there
    ("replace", 0.2, "before"),  # right before the manifest's rename
    ("replace", 0.2, "after"),  # right after it
    ("replace", 0.45, "before"),
    ("replace", 0.7, "after"),
    ("replace", 0.9, "before"),
    ("fsync", 0.15, "before"),  # rows are written, not synced
    ("fsync", 0.35, "after"),
    ("fsync", 0.6, "before"),
    ("fsync", 0.95, "after"),
    ("write_array", 0.1, "within"),  # half a segment
    ("write_array", 0.5, "within"),
    ("write_array", 0.8, "within"),
    ("unlink", 0.0, "before"),  # merged, the parts not yet deleted
    ("unlink", 0.5, "after"),
    ("unlink", 0.8, "before"),
    ("unlink", 1.0, "before"),  # compacted, half cleaned up
]


@pytest.mark.parametrize(("call", "share", "when"), MOMENTS)
def test_a_killed_run_continues_to_the_same_database(tmp_path, whole, call, share, when):
    folder = tmp_path / "s"
    at = 1 + round(share * (whole["calls"][call] - 1))
    killed = run(folder, call, at, when)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if (folder / "manifest.json").exists():
        with Store.open(folder) as store:
            assert problems(store) == []
            assert_is_a_prefix(store)
    again = run(folder)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["fingerprint"] == whole["fingerprint"]
    with Store.open(folder) as store:
        assert problems(store) == []
        assert_is_a_prefix(store)
        assert store.num_photos == store.num_descriptors == 65
        assert len(set(store.photos.paths)) == 65
        assert left_overs(folder, [entry.name for entry in store.ledger.manifest.files()]) == []


def assert_is_a_prefix(store: Store) -> None:
    """The state is one of those that lie between two commits of the work."""
    num_done = store.options["done"]
    steps = {0: range(10), 1: range(10, 20), 2: range(20, 30), 3: range(30, 40), 4: range(40, 50)}
    steps |= {7: range(70, 80), 8: range(80, 90), 10: range(100, 105)}

    def after(num: int) -> set[str]:
        gone = set(range(5, 15)) if num > 5 else set()
        return {
            f"p/{n}.jpg"
            for number, numbers in steps.items()
            if number < num
            for n in numbers
            if n not in gone
        }

    assert set(store.photos.paths) in (after(num_done), after(num_done + 1))
    assert (store.photos.width == [int(path[2:-4]) for path in store.photos.paths]).all()
    assert (store.descriptor_rows >= 0).all()
    assert len(set(store.contents.tolist())) == store.num_descriptors
