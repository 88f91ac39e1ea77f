"""`whence index` killed at ten moments and run again: the same database by content as a run that
nobody killed.

The child kills itself (SIGKILL) around the n-th rename, sync or described photo; renames include
those of the manifest.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_street
from whence.index.audit import fingerprint, problems
from whence.index.store import Store
from whence.localize.localizer import Localizer

CHILD = """
import json, os, signal, sys
from whence.cli import run
from whence.localize import build
from whence.models.vlad import Vlad
from whence.runtime import set_threads
from whence.settings import BuildOptions

root, call, at, when = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
calls = []


def trap(owner, name):
    real = getattr(owner, name)

    def trapped(*args, **kwargs):
        calls.append(name)
        is_now = name == call and calls.count(name) == at
        if is_now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if is_now and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, trapped)


trap(os, "replace")
trap(os, "fsync")
trap(Vlad, "describe")
set_threads(1)
# Frequent commits and a small vocabulary, as options a database remembers.
stored = build.stored_options
build.stored_options = lambda path: stored(path) or BuildOptions(
    "rootsift-vlad", commit_photos=9, model_options={"num_words": 8}, keep_local=False
)
code = run(["index", root + "/photos", "--db", root + "/city.whence", "--json"])
print(json.dumps({"code": code, "calls": {name: calls.count(name) for name in set(calls)}}))
"""

NUM_PHOTOS = 104


def make(root: Path) -> Path:
    write_street(root / "photos", num_places=NUM_PHOTOS, shift=0, run=0)
    return root


def child(
    root: Path, call: str = "none", at: int = 0, when: str = "before"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(root), call, str(at), when]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def whole(photos: Path) -> dict:
    """The fingerprint of the uninterrupted database, and how often each call was made."""
    done = child(photos)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["code"] == 0
    with Store.open(photos / "city.whence") as store:
        assert store.num_photos == NUM_PHOTOS
        said["fingerprint"] = fingerprint(store, skip_blobs=["engine"])
    return said


MOMENTS = [
    ("replace", 0.0, "before"),  # the first manifest is not there yet
    ("replace", 0.0, "after"),  # it just appeared
    ("replace", 0.3, "before"),
    ("replace", 0.5, "after"),
    ("replace", 0.8, "before"),
    ("replace", 1.0, "before"),  # everything is described, the last commit is not made
    ("fsync", 0.1, "before"),  # around the fitted vocabulary
    ("fsync", 0.6, "after"),
    ("describe", 0.2, "after"),
    ("describe", 0.9, "before"),
]


@pytest.mark.parametrize(("call", "share", "when"), MOMENTS)
def test_killed_and_run_again(
    tmp_path: Path, photos: Path, whole: dict, call: str, share: float, when: str
) -> None:
    root = tmp_path
    (root / "photos").symlink_to(photos / "photos")
    at = 1 + round(share * (whole["calls"][call] - 1))
    killed = child(root, call, at, when)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if (root / "city.whence" / "manifest.json").exists():
        with Store.open(root / "city.whence") as store:
            assert problems(store) == []
            half = store.num_photos
        assert half <= NUM_PHOTOS
    again = child(root)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout.splitlines()[-2])
    assert report["num_photos"] == NUM_PHOTOS
    with Store.open(root / "city.whence") as store:
        assert problems(store) == []
        assert len(set(store.photos.paths)) == len(store.photos) == NUM_PHOTOS
        assert fingerprint(store, skip_blobs=["engine"]) == whole["fingerprint"]
    with Localizer.open(root / "city.whence") as localizer:
        first = localizer.photos.file(0)
        assert localizer.locate(first).candidates[0].photo == localizer.photos.paths[0]
