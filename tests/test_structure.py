"""The house's own rules: who may import whom, what is public, how names and files look."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import whence
from whence.cli import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "whence"
FLOORS = {
    0: {"errors", "types", "geo", "settings", "runtime", "registry"},
    1: {"data"},
    2: {"models"},
    3: {"index", "matching"},
    4: {"localize", "worlds"},
    5: {"evaluation"},
    6: {"training"},
    7: {"recipes", "studies"},
    8: {"cli", "server", "journal"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
GROUND_MAY_IMPORT = {*sys.stdlib_module_names, "numpy", "pyproj", "rich", "whence"}
"""rich draws the progress bars of `runtime`, imported when one is shown."""
FORBIDDEN_FILE_NAMES = re.compile(r"utils?|helpers?|commons?|misc|core")
FORBIDDEN_WORDS = {
    "gallery",
    "probe",
    "pic",
    "pics",
    "embedding",
    "embeddings",
    "encoder",
    "trunk",
    "cluster",
    "cfg",
    "yaw_deg",
    "bearing",
}
PUBLIC_NAMES = {
    "Around",
    "BuildOptions",
    "Candidate",
    "DescriptorModel",
    "GeoPoint",
    "Localizer",
    "Match",
    "ModelCard",
    "Photos",
    "Position",
    "WhenceError",
    "evaluate",
    "list_models",
    "load_image",
    "load_model",
    "match_images",
    "render_world",
    "scan_photos",
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "whence" else {node.module or ""}
            found |= names
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_down_only(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":
        return
    assert room in FLOOR_OF, f"{room} is no room of the house"
    for name in imports_of(file):
        parts = name.split(".")
        if parts[0] == "whence" and len(parts) > 1 and parts[1] in FLOOR_OF:
            other = parts[1]
            is_below = FLOOR_OF[other] < FLOOR_OF[room]
            is_ground = FLOOR_OF[other] == FLOOR_OF[room] == 0
            assert is_below or is_ground or other == room, f"{file.name} ({room}) imports {name}"
        if FLOOR_OF[room] == 0:
            assert parts[0] in GROUND_MAY_IMPORT, f"the ground floor must not import {name}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_are_small_and_documented(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert not FORBIDDEN_FILE_NAMES.fullmatch(file.stem)
    assert len(file.relative_to(SOURCE).parts) <= 2, "rooms are at most two levels deep"


def defined_names(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_identifiers_use_the_fields_words(file: Path) -> None:
    for name in defined_names(ast.parse(file.read_text(encoding="utf-8"))):
        words = set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))
        assert not words & FORBIDDEN_WORDS, name


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_public_functions_say_what_they_do(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert node.args.kwarg is None, f"{node.name} swallows unknown options"


def test_the_public_inventory() -> None:
    assert set(whence.__all__) == PUBLIC_NAMES
    assert whence.__all__ == sorted(whence.__all__)
    assert len(PUBLIC_NAMES) < 30
    for name in PUBLIC_NAMES:
        assert getattr(whence, name) is not None
        assert name in dir(whence)
    assert not PUBLIC_NAMES & {path.stem for path in SOURCE.iterdir()}, "a name and a room collide"
    with pytest.raises(AttributeError, match="no attribute"):
        whence.nothing  # noqa: B018


def test_every_verb_and_option_has_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {"index", "locate", "evaluate", "models", "demo", "doctor"} <= set(commands)
    for name, command in commands.items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name} has no help"


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    citation = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert top is not None
    assert citation is not None
    assert project["version"] == whence.__version__ == top.group(1) == citation.group(1)


def test_importing_the_package_is_cheap() -> None:
    code = "import whence, sys, json; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {"numpy", "cv2", "faiss", "PIL", "torch", "typer", "rich"} & set(loaded)
