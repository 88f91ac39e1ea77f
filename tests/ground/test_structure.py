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

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "whence"
FLOORS = {
    0: {"errors", "types", "geo", "settings", "runtime", "cards", "registry"},
    1: {"data"},
    2: {"models"},
    3: {"index", "matching"},
    4: {"localize", "worlds"},
    5: {"evaluation"},
    6: {"training"},
    7: {"recipes"},
    8: {"studies"},
    9: {"cli", "server", "journal"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
GROUND_MAY_IMPORT = {*sys.stdlib_module_names, "numpy", "pyproj", "rich", "threadpoolctl", "whence"}
"""In `runtime` rich draws the progress bars, imported when one is shown, and threadpoolctl bounds the threads of numpy."""
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
    if room in ("__init__", "__main__"):
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
    assert len(file.relative_to(SOURCE).parts) <= 3, "rooms are at most three levels deep"


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


MAY_WRITE = {
    "runtime.py": {"open", "os.open", "os.replace", "os.link", "tempfile.mkstemp"},
    "index/files.py": {"open", "os.open", "archive.open"},
    "index/caches.py": {"np.memmap"},
    "evaluation/describing.py": {"np.memmap"},
    "evaluation/cost.py": {"open"},
    "localize/build.py": {"os.rename"},
    "localize/maintain.py": {"os.rename"},
    "cli/output.py": {"os.open"},
    "data/thumbnails.py": {"picture.save"},
    "models/checkpoints/http.py": {"open", "file.truncate", "os.replace", "note.write_text"},
    "models/checkpoints/origins.py": {"tarfile.open", "whole.open"},
    "models/engines/export.py": {"file.write_bytes"},
    "training/record.py": {"open"},
}
"""Files that may write otherwise than through `runtime.atomic_write`, and how: the one itself, the store's data files and lock,
whole database folders, maps that are opened for reading or have no name, the null device, a picture in memory, downloads that go
on where they broke off, a file to try before it is written, a log that grows by lines, and a counter of the system that is set
to zero."""
WRITING_METHODS = {"write_text", "write_bytes", "imwrite", "save", "savez", "savez_compressed", "savetxt", "tofile", "touch"}
WRITING_METHODS |= {
    "to_csv",
    "save_file",
    "copyfile",
    "copy2",
    "copytree",
    "move",
    "rename",
    "mkstemp",
    "link",
    "symlink",
    "symlink_to",
}
WRITING_METHODS |= {"hardlink_to", "NamedTemporaryFile", "truncate", "memmap", "open_memmap", "imsave", "extractall", "hardlink"}
WRITING_MODULES = {"os": {"open", "replace", "link", "rename"}, "shutil": {"copy"}, "tempfile": {"mkstemp"}}


def atomic_names(tree: ast.AST) -> set[str]:
    """Names that `with atomic_write(...) as NAME` gives a file."""
    items = [item for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items]
    return {
        item.optional_vars.id
        for item in items
        if isinstance(item.optional_vars, ast.Name)
        and isinstance(item.context_expr, ast.Call)
        and getattr(item.context_expr.func, "id", "") == "atomic_write"
    }


def is_opened_for_writing(call: ast.Call, place: int) -> bool:
    """Whether a call of `open` names, as its argument at `place` or by keyword, another mode than reading."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] or call.args[place : place + 1]
    return any(not isinstance(mode, ast.Constant) or bool(set(str(mode.value)) & set("wax+")) for mode in modes)


def writing_calls(tree: ast.AST) -> set[str]:
    """Calls that write a file, other than into one that `atomic_write` opened."""
    found, atomic = set(), atomic_names(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Name) and first.id in atomic:
            continue
        if isinstance(call.func, ast.Name) and call.func.id == "open" and is_opened_for_writing(call, 1):
            found.add("open")
        if not isinstance(call.func, ast.Attribute):
            continue
        owner, method = ast.unparse(call.func.value), call.func.attr
        is_opening = method == "open" and owner not in ("os", "Image", "Store", "Localizer", "cls", "PositionColumns")
        is_opening = is_opening and (is_opened_for_writing(call, 0) or is_opened_for_writing(call, 1))
        if is_opening or method in WRITING_METHODS or method in WRITING_MODULES.get(owner, ()):
            found.add(f"{owner}.{method}")
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_are_written_by_atomic_write_only(file: Path) -> None:
    name = file.relative_to(SOURCE).as_posix()
    assert writing_calls(ast.parse(file.read_text(encoding="utf-8"))) <= MAY_WRITE.get(name, set())


@pytest.mark.parametrize(
    "line",
    [
        'open(path, "w")',
        'open(path, mode="xb")',
        "open(path, mode)",
        'path.open("ab")',
        'path.write_text("a")',
        'Path("a").write_bytes(b"")',
        'cv2.imwrite("a.png", image)',
        "image.save(path)",
        "np.savez(path, a=1)",
        "np.save(path, a)",
        "array.tofile(path)",
        "shutil.copy(a, b)",
        "os.replace(a, b)",
        "os.open(path, os.O_WRONLY)",
        "with atomic_write(path) as file:\n    np.savez(other, a=1)",
    ],
)
def test_a_new_way_around_atomic_write_would_be_found(line: str) -> None:
    assert writing_calls(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["open(path)", 'path.open("rb")', "with atomic_write(path) as file:\n    np.savez(file, a=1)", "text.replace(a, b)"]
)
def test_reading_is_no_writing(line: str) -> None:
    assert not writing_calls(ast.parse(line))


def test_every_module_that_writes_is_in_the_battery() -> None:
    """A module that calls `atomic_write` is imported by the battery of writers, or is named here with the reason why not."""
    elsewhere = {
        "runtime.py": "test_runtime",
        "index/manifest.py": "test_hostile and test_store_broken",
        "index/exchange.py": "in the battery through export_database",
        "cli/missing.py": "in the battery as a command",
        "models/checkpoints/origins.py": "test_downloads, whose disk is full while a server answers",
        "models/engines/export.py": "test_export, after what must be computed first",
        "training/pixels.py": "decoded photos, made again where they are not",
        "studies/geowarp_cells.py": "numbers beside a study, which the battery writes",
        "studies/rerank_cells.py": "comparisons beside a study, made again where they are not",
        "training/warp_loop.py": "numbers beside a training's recipe, which the battery writes",
        "worlds/mesh.py": "part of a world, whose first file stands for all",
        "worlds/shards.py": "photos of a world, whose first file stands for all",
    }
    battery = (ROOT / "tests" / "writers.py").read_text(encoding="utf-8")
    for file in MODULES:
        name = file.relative_to(SOURCE).as_posix()
        if "atomic_write(" in file.read_text(encoding="utf-8") and name not in elsewhere:
            assert f"whence.{name.removesuffix('.py').replace('/', '.')} import" in battery, name
