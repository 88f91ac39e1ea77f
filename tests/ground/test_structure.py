"""The house's own rules: who may import whom, what is public, how names and files look."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer

import whence
from whence.cli import app

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "whence"
FLOORS = {
    0: {
        "errors",
        "types",
        "parts",
        "geo",
        "records",
        "settings",
        "runtime",
        "cards",
        "registry",
        "lists",
        "version",
        "plugins",
    },
    1: {"data"},
    2: {"models", "web"},
    3: {"index", "matching"},
    4: {"localize", "worlds"},
    5: {"evaluation"},
    6: {"training"},
    7: {"recipes"},
    8: {"studies"},
    9: {"server", "journal"},
    10: {"cli"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
GROUND_MAY_IMPORT = {
    *sys.stdlib_module_names,
    "numpy",
    "pyproj",
    "pydantic",
    "rich",
    "threadpoolctl",
    "whence",
}
"""In `records` pydantic checks values, imported with the first that needs it. In `runtime` rich
draws the progress bars, imported when one is shown, and threadpoolctl bounds the threads of
numpy."""
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
    "register",
    "render_world",
    "scan_photos",
    "train",
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


DOTTED = re.compile(rf"whence\.({'|'.join(FLOOR_OF)})(\.\w+)*(:\w+)?")
"""A string that is wholly the name of a module, or of something in one: what is imported by it
counts as an import."""
LISTS_NAMES = "registry.py"
"""The file whose table `KINDS` lists names of tables above it, by its task."""


def imports_in(tree: ast.AST, *, is_listing: bool = False) -> set[str]:
    """Names of what is imported, by dotted strings too; of a file that lists names, not those in
    its table `KINDS`."""
    listed: set[ast.AST] = set()
    if is_listing:
        tables = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "KINDS"
        )
        listed = {part for table in tables for part in ast.walk(table)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and DOTTED.fullmatch(node.value)
            and node not in listed
        ):
            found.add(node.value.replace(":", "."))
    return found


def imports_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return imports_in(tree, is_listing=file.relative_to(SOURCE).as_posix() == LISTS_NAMES)


def goes_up(room: str, name: str) -> bool:
    """Whether a room of the house must not import this name."""
    parts = name.split(".")
    if parts[0] != "whence" or len(parts) < 2 or parts[1] not in FLOOR_OF or parts[1] == room:
        return False
    is_ground = FLOOR_OF[parts[1]] == FLOOR_OF[room] == 0
    return not (FLOOR_OF[parts[1]] < FLOOR_OF[room] or is_ground)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_down_only(file: Path) -> None:
    room = room_of(file)
    if room in ("__init__", "__main__"):
        return
    assert room in FLOOR_OF, f"{room} is no room of the house"
    for name in imports_of(file):
        assert not goes_up(room, name), f"{file.name} ({room}) imports {name}"
        if FLOOR_OF[room] == 0:
            assert name.split(".")[0] in GROUND_MAY_IMPORT, (
                f"the ground floor must not import {name}"
            )


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("data", "from whence.models.vlad import Vlad"),
        ("data", "def later():\n    import whence.models"),
        ("models", 'PART = "whence.matching.cards:SCORERS"'),
        ("cards", 'importlib.import_module("whence.models.zoo")'),
        ("index", "from whence.matching import matchers"),
        ("registry", 'OTHERS = ("whence.index.engines:ENTRIES",)'),
    ],
)
def test_an_arrow_that_goes_up_would_be_found(room: str, line: str) -> None:
    assert any(
        goes_up(room, name) for name in imports_in(ast.parse(line), is_listing=room == "registry")
    )


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("models", "from whence.data.images import load_image"),
        ("models", 'text = "see whence.matching.cards for more"'),
        ("models", '"""whence.matching: rooms above."""'),
        ("registry", 'KINDS: dict[str, Table] = {"index": Table("whence.index.engines:ENTRIES")}'),
        ("cards", "from whence.errors import BadOption"),
    ],
)
def test_what_goes_down_or_is_prose_is_no_arrow_up(room: str, line: str) -> None:
    assert not any(
        goes_up(room, name) for name in imports_in(ast.parse(line), is_listing=room == "registry")
    )


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files of which each leads to each other one."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), list(arrows[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += arrows.get(name, ())
        return seen

    ways = {name: reached(name) for name in arrows}
    groups = {
        tuple(sorted(other for other in ways[name] if name in ways.get(other, ())))
        for name in arrows
        if name in ways[name]
    }
    return [list(group) for group in sorted(groups)]


def module_name(file: Path) -> str:
    return ".".join(["whence", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


def test_no_circle_among_files() -> None:
    """Imports inside functions, for types only, and by a dotted string count too."""
    modules = {module_name(file): file for file in MODULES}
    arrows = {}
    for module, file in modules.items():
        # What is imported is a module, or something in one.
        targets = {
            name if name in modules else name.rpartition(".")[0] for name in imports_of(file)
        }
        arrows[module] = {target for target in targets if target in modules} - {module}
    assert circles(arrows) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"e"}, "e": {"c"}}) == [
        ["a", "b"],
        ["c", "d", "e"],
    ]
    by_text = {
        "whence.a": imports_in(ast.parse('MEASURED_BY = "whence.data.b:measure"')),
        "whence.data.b": {"whence.a"},
    }
    arrows = {
        module: {name.removesuffix(".measure") for name in names}
        for module, names in by_text.items()
    }
    assert circles(arrows) == [["whence.a", "whence.data.b"]]


def twins(files: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of files of one name within two floors, or in one room, that no third-level folder
    tells apart."""
    named = [
        Path(file) for file in sorted(files) if Path(file).stem not in ("__init__", "__main__")
    ]

    def floor(file: Path) -> int:
        return FLOOR_OF[file.parts[0].removesuffix(".py")]

    return [
        (str(one), str(other))
        for one, other in itertools.combinations(named, 2)
        if one.stem == other.stem
        and abs(floor(one) - floor(other)) <= 2
        and max(len(one.parts), len(other.parts)) < 3
    ]


def test_no_file_name_twice_within_two_floors() -> None:
    assert twins(file.relative_to(SOURCE).as_posix() for file in MODULES) == []


def test_a_file_name_that_is_there_twice_would_be_found() -> None:
    assert twins(["matching/views.py", "localize/views.py"]) == [
        ("localize/views.py", "matching/views.py")
    ]
    assert twins(["cards.py", "models/cards.py"]) == [("cards.py", "models/cards.py")]
    assert twins(["index/answers.py", "evaluation/answers.py"])
    assert (
        twins(
            ["index/answers.py", "training/answers.py", "index/__init__.py", "models/__init__.py"]
        )
        == []
    )
    assert twins(["models/vlad.py", "models/cards/vlad.py", "matching/local/vlad.py"]) == []


MAX_LINES = 435
"""350 lines of 132 columns: the same code at 100 columns has 1.24 times as many."""


def is_too_long(text: str) -> bool:
    """Whether a file has more lines than one may have."""
    return len(text.splitlines()) > MAX_LINES


def test_a_long_file_would_be_found() -> None:
    assert is_too_long("line\n" * (MAX_LINES + 1))
    assert not is_too_long("line\n" * MAX_LINES)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_are_small_and_documented(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not is_too_long(text)
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert not FORBIDDEN_FILE_NAMES.fullmatch(file.stem)
    assert not is_too_deep(file.relative_to(SOURCE).as_posix())


def is_too_deep(name: str) -> bool:
    """Whether a file lies deeper than three levels: room, folder, file."""
    return len(Path(name).parts) > 3


def test_a_deep_file_would_be_found() -> None:
    assert is_too_deep("models/warp/parts/cell.py")
    assert not is_too_deep("models/warp/cell.py")


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
        # A training's probe chooses its weights; elsewhere the word is the field's other one for
        # queries.
        assert not words & (
            FORBIDDEN_WORDS - ({"probe"} if room_of(file) == "training" else set())
        ), name


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
    citation = re.search(
        r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert top is not None
    assert citation is not None
    assert project["version"] == whence.__version__ == top.group(1) == citation.group(1)


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import whence, sys, json; print(json.dumps(sorted(m for m in sys.modules if '.' not in "
        "m)))"
    )
    loaded = json.loads(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )
    assert not {"numpy", "cv2", "faiss", "PIL", "torch", "typer", "rich", "pydantic"} & set(loaded)


def test_tables_are_made_in_one_place() -> None:
    """Whoever prints rows makes a `Tabular`, which knows terminal, Markdown and HTML."""
    makers = [file for file in MODULES if "rich.table" in file.read_text(encoding="utf-8")]
    assert [file.relative_to(SOURCE).as_posix() for file in makers] == ["web/tabular.py"]


MAY_WRITE = {
    "runtime.py": {"open", "os.open", "os.replace", "os.link", "tempfile.mkstemp"},
    "index/files.py": {"open", "os.open", "archive.open"},
    "index/caches.py": {"np.memmap"},
    "evaluation/describing.py": {"np.memmap"},
    "evaluation/cost.py": {"open"},
    "localize/build.py": {"os.rename"},
    "localize/maintain.py": {"os.rename"},
    "cli/output.py": {"os.open"},
    "data/elsewhere.py": {"store.open"},
    "data/placed_files.py": {"np.memmap"},
    "data/cogs.py": {"rasterio.open"},
    "data/raster_windows.py": {"rasterio.open"},
    "data/rasters.py": {"rasterio.open"},
    "data/thumbnails.py": {"picture.save"},
    "data/videos.py": {"av.open"},
    "models/checkpoints/http.py": {"open", "file.truncate", "os.replace", "note.write_text"},
    "models/checkpoints/origins.py": {"tarfile.open", "whole.open"},
    "models/engines/export.py": {"file.write_bytes"},
    "server/client.py": {"self._opener.open"},
    "server/jobs.py": {"open", "os.open"},
    "training/federated/processes.py": {"open"},
    "training/federated/rounds.py": {"open"},
    "training/record.py": {"open"},
}
"""Files that may write otherwise than through `runtime.atomic_write`, and how: the one itself, the
store's data files and lock, whole database folders, maps, rasters and videos that are opened for
reading or have no name, a raster that is made in a folder of its own before it is copied into the
file of `atomic_write`, the null device, a picture in memory, an address that is asked, results of
jobs that grow by lines and a lock, downloads that go on where they broke off, a file to try before
it is written, logs that grow by lines, and a counter of the system that is set to zero."""
WRITING_METHODS = {
    "write_text",
    "write_bytes",
    "imwrite",
    "save",
    "savez",
    "savez_compressed",
    "savetxt",
    "tofile",
    "touch",
}
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
WRITING_METHODS |= {
    "hardlink_to",
    "NamedTemporaryFile",
    "truncate",
    "memmap",
    "open_memmap",
    "imsave",
    "extractall",
    "hardlink",
}
WRITING_MODULES = {
    "os": {"open", "replace", "link", "rename"},
    "shutil": {"copy"},
    "tempfile": {"mkstemp"},
}


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
    """Whether a call of `open` names, as its argument at `place` or by keyword, another mode than
    reading."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] or call.args[
        place : place + 1
    ]
    return any(
        not isinstance(mode, ast.Constant) or bool(set(str(mode.value)) & set("wax+"))
        for mode in modes
    )


def writing_calls(tree: ast.AST) -> set[str]:
    """Calls that write a file, other than into one that `atomic_write` opened."""
    found, atomic = set(), atomic_names(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Name) and first.id in atomic:
            continue
        if (
            isinstance(call.func, ast.Name)
            and call.func.id == "open"
            and is_opened_for_writing(call, 1)
        ):
            found.add("open")
        if not isinstance(call.func, ast.Attribute):
            continue
        owner, method = ast.unparse(call.func.value), call.func.attr
        is_opening = method == "open" and owner not in (
            "os",
            "Image",
            "Store",
            "Localizer",
            "Journal",
            "cls",
            "PositionColumns",
        )
        is_opening = is_opening and (
            is_opened_for_writing(call, 0) or is_opened_for_writing(call, 1)
        )
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
    "line",
    [
        "open(path)",
        'path.open("rb")',
        "with atomic_write(path) as file:\n    np.savez(file, a=1)",
        "text.replace(a, b)",
    ],
)
def test_reading_is_no_writing(line: str) -> None:
    assert not writing_calls(ast.parse(line))


def test_every_module_that_writes_is_in_the_battery() -> None:
    """A module that calls `atomic_write` is imported by the battery of writers, or is named here
    with the reason why not."""
    elsewhere = {
        "runtime.py": "test_runtime",
        "index/manifest.py": "test_hostile and test_store_broken",
        "index/exchange.py": "in the battery through export_database",
        "cli/footprints.py": (
            "polygons and points beside an answer, each whole or not at all: test_from_orbit"
        ),
        "localize/orbit_files.py": "files for other programs, each whole or not: test_from_orbit",
        "models/checkpoints/origins.py": (
            "test_downloads, whose disk is full while a server answers"
        ),
        "models/engines/export.py": "test_export, after what must be computed first",
        "data/cogs.py": "needs an extra: test_cogs, whose disk is full while a raster is made",
        "server/jobs.py": "test_service, and killed in test_killed_service",
        "server/uploads.py": "photos of the service's own folder: test_service",
        "server/job_routes.py": "an uploaded video, whole or not at all: test_service_live",
        "localize/onto_grid.py": (
            "a table beside a raster, whole or not at all: test_register of the command line"
        ),
        "worlds/earth/radar.py": "pairs of a world, rendered again where they are not",
        "data/maps.py": "tiles of a map, cut again where they are not",
        "data/video_frames.py": "frames of a video, taken again where they are not",
        "training/pixels.py": "decoded photos, made again where they are not",
        "studies/earthmatch_runs.py": "trials beside a study, which the battery writes",
        "studies/geowarp_runs.py": "numbers beside a study, which the battery writes",
        "studies/contrasts.py": "what an arm got right, measured again where it is not",
        "studies/earth_runs.py": "what an arm got right, measured again where it is not",
        "data/kapture_files.py": "folders for another program, file by file: test_kapture",
        "localize/hloc.py": (
            "test_hloc: positions beside the files of features, which the battery writes"
        ),
        "studies/registration_runs.py": "matches beside a study, made again where they are not",
        "studies/owner_runs.py": "what an arm got right, measured again where it is not",
        "studies/rerank_runs.py": "comparisons beside a study, made again where they are not",
        "training/federated/processes.py": (
            "what is said to Flower's processes, written anew each time"
        ),
        "training/frozen.py": "maps of photos, made again where they are not",
        "studies/sequence_runs.py": (
            "frames of a set as they were described, described again where they are not"
        ),
        "studies/many_sources_runs.py": "what an arm got right, measured again where it is not",
        "studies/mesh_runs.py": "what an arm got right, measured again where it is not",
        "studies/semantic_runs.py": "what an arm got right, measured again where it is not",
        "training/branches/labelled.py": "classes of photos, made again where they are not",
        "training/branches/aligned.py": "what a model said of photos, made again where it is not",
        "training/branches/distilled.py": (
            "what a teacher said of photos, made again where it is not"
        ),
        "training/branches/taught_points.py": (
            "what a teacher found on photos, made again where it is not"
        ),
        "training/branches/texts.py": (
            "test_texts: a language model's folder, whose last file stands for all, and a "
            "compressor's"
        ),
        "worlds/clips.py": "clips of a world, a split whole or not at all: test_clips",
        "worlds/logs.py": "logs of a world, a split whole or not at all: test_texts",
        "web/heat.py": "test_drive_tokens: a map, whole or not at all",
        "training/branches/warps.py": (
            "numbers beside a training's recipe, which the battery writes"
        ),
        "models/reduction.py": "test_reduction: what cannot be made leaves no file",
        "worlds/mesh.py": "part of a world, whose first file stands for all",
        "worlds/scene_layouts.py": "part of a world, whose first file stands for all",
        "worlds/shards.py": "photos of a world, whose first file stands for all",
    }
    battery = (ROOT / "tests" / "writers.py").read_text(encoding="utf-8")
    for file in MODULES:
        name = file.relative_to(SOURCE).as_posix()
        if "atomic_write(" in file.read_text(encoding="utf-8") and name not in elsewhere:
            assert f"whence.{name.removesuffix('.py').replace('/', '.')} import" in battery, name
