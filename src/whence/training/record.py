"""What a run leaves beside its weights: the resolved recipe with versions and git state, and the
log, one JSON object a line."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from whence.errors import BadOption, InputError, MissingExtra, UnknownName
from whence.runtime import atomic_write, claim_folder
from whence.training.recipe import Recipe
from whence.version import VERSION

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-metric-learning",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "safetensors",
)


def claim_run(out: Path, recipe: Recipe, *, data: Mapping[str, Any], is_resumed: bool) -> None:
    """Make `out` the folder of this training, or check that it is, where it goes on. Raises
    `InputError` and `BadOption`."""
    values = {"recipe": json.loads(recipe.to_json())}
    beside = {"data": dict(data), "packages": versions(), "git": git_state()}
    found = claim_folder(out, values, name="recipe.json", beside=lambda: beside)
    if found is None:
        return
    if not is_resumed:
        raise InputError(
            f"{str(out)!r} holds a training already; go on with --resume, or choose another folder"
        )
    try:
        is_same = Recipe.from_json(json.dumps(found["recipe"])) == recipe
    except (BadOption, UnknownName, KeyError):
        # A recipe of another version, or of a part that is not registered here.
        is_same = False
    if not is_same:
        file = str(out / "recipe.json")
        raise BadOption(
            f"{file!r} says other values than asked for; give the same recipe and --set, or "
            "choose another folder"
        )


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"whence": VERSION, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def git_state() -> dict[str, Any]:
    """The commit of the source tree and whether it has changes that are not committed; empty where
    it is no checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.stdout.strip(), "is_changed": bool(status.stdout.strip())}


class Log:
    """log.jsonl: one object a line, in the order of the steps. What a killed run wrote after its
    last checkpoint is dropped."""

    def __init__(self, file: Path, *, start: int, tensorboard: Path | None = None) -> None:
        kept = [line for line in read_log(file) if line["step"] <= start]
        with atomic_write(file, "w") as text:
            text.writelines(json.dumps(line) + "\n" for line in kept)
        self._writer = None if tensorboard is None else _tensorboard(tensorboard, start)
        self._file = file

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line."""
        with open(self._file, "a", encoding="utf-8") as text:
            text.write(json.dumps({"step": step, **values}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Nothing may be written after this."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("loop.has_tensorboard", "train") from None
    return SummaryWriter(str(folder), purge_step=start)


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is passed over."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
