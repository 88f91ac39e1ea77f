"""The core works where torch is not installed: asked of a process in which importing it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "accelerate", "safetensors", "huggingface_hub", "onnxruntime", "openvino"):
    sys.modules[name] = None
from whence.cli import main
sys.argv = ["whence", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "{street}/database", "--db", "{out}/street.whence"],
        ["evaluate", "{street}"],
        ["models"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_core_verbs_run_without_torch(arguments: list[str], street: Path, tmp_path: Path) -> None:
    filled = [argument.format(street=street, out=tmp_path) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *filled], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
