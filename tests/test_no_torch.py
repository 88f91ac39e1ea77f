"""The core runs where there is no torch: the main job from end to end, with any import of it made to fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "whence"
MAIN_JOB = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "kornia", "transformers", "accelerate"):
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


def test_no_file_of_the_core_names_torch_at_import() -> None:
    """Only inside functions, and only in rooms that train or run networks."""
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in names), file
