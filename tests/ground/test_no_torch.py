"""The core runs where there is no torch: the main job from end to end, with any import of it made
to fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "whence"
MAIN_JOB = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        heavy = ("torch", "torchvision", "timm", "kornia", "transformers", "accelerate")
        if name.split(".")[0] in heavy:
            raise ImportError(f"{name} must not be imported here")


sys.meta_path.insert(0, NoTorch())
import whence
from whence.cli import run

street, database = sys.argv[1:]
assert run(["--help"]) == 0
for verb in ("index", "locate", "evaluate", "models", "demo", "doctor"):
    assert run([verb, "--help"]) == 0
assert run(["index", street + "/database", "--db", database]) == 0
assert run(["locate", street + "/queries", "--db", database, "--json"]) == 0
assert run(["evaluate", street]) == 0
assert run(["models"]) == 0
assert run(["doctor", "--db", database]) == 0
for name in whence.__all__:
    getattr(whence, name)
assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
print("done without torch")
"""


def test_the_main_job_without_torch(street: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAIN_JOB, str(street), str(tmp_path / "c.whence")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done without torch\n")


def top_imports(file: Path) -> set[str]:
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_only_networks_and_training_import_torch() -> None:
    """Directly or through another file of the house; everything else reaches them inside
    functions."""
    imports = {
        ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts): top_imports(file)
        for file in SOURCE.rglob("*.py")
    }
    heavy = {
        module
        for module, names in imports.items()
        if any(name.split(".")[0] == "torch" for name in names)
    }
    while more := {module for module, names in imports.items() if names & heavy} - heavy:
        heavy |= more
    assert {module.split(".")[1] for module in heavy} <= {"models", "training"}, heavy
    assert not heavy & {
        "whence.models.descriptor",
        "whence.models.vlad",
        "whence.models.local.sift",
    }
