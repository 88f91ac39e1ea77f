"""Words: what docstrings begin with, and which names live long."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "whence"
MODULES = sorted({*SOURCE.rglob("*.py")} - {*(SOURCE / "cli").glob("*.py")})
"""All but verbs of the command line, which say what they do, and return an exit code."""
NO_NOUNS = {
    *("What", "Returns", "Gives", "Makes", "Takes", "Writes", "Reads", "Finds"),
    *("Add", "Answer", "Bring", "Build", "Change", "Check", "Commit", "Compare", "Compute", "Copy"),
    *("Count", "Create", "Describe", "Draw", "Find", "Fit", "Get", "Give", "Keep", "Let", "List"),
    *("Load", "Make", "Measure", "Merge", "Move", "Open", "Place", "Prepare", "Print", "Propose"),
    *("Put", "Read", "Remove", "Render", "Return", "Run", "Save", "Say", "Search", "Send", "Sort"),
    *("Store", "Take", "Tell", "Train", "Try", "Turn", "Write"),
}
SILENT = {None, "None", "Iterator[None]", "AsyncIterator[None]", "Never", "NoReturn"}
"""Annotations of what gives nothing; a context that gives nothing says what it does."""
PARTICIPLES = {
    *("answered", "asked", "changed", "chosen", "come", "counted", "done", "drawn", "expected"),
    *("found", "gathered", "given", "gone", "got", "held", "joined", "judged", "kept", "known"),
    *("left", "listed", "made", "named", "needed", "paid", "placed", "prepared", "reached"),
    *("said", "searched", "seen", "sent", "shown", "stated", "taken", "told", "touched", "tried"),
    *("used", "wanted", "written"),
}
"""Those that say of anything only that something was done with it. Exact words of the field, and
those that say what became of it, may stay: skipped, excluded, matched, located, fixed, allowed."""
LONG_LINES = 25
WRITTEN_OUT = {
    "src/whence/server/jobs.py: changed",  # a key of the files that keep a service's jobs
    "src/whence/training/clip_learners.py: shown",  # of parameters in checkpoints of trainings
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Public functions and methods that others can reach."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def first_words(tree: ast.AST) -> list[str]:
    """Docstrings of what returns something, but begins with a verb, or with "What", for a noun."""
    wrong = []
    for function in functions(tree):
        returned = ast.unparse(function.returns) if function.returns else None
        words = (ast.get_docstring(function) or "").split()
        if returned in SILENT or not words:
            continue
        first = words[0].strip(".,:;")
        if first in NO_NOUNS:
            wrong.append(f"{function.name}: {' '.join(words[:6])}")
    return wrong


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_docstrings_begin_with_what_is_returned(file: Path) -> None:
    assert first_words(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_a_verb_before_a_noun_would_be_found() -> None:
    source = '''
def one() -> int:
    """Return the number."""
class Two:
    def three(self) -> int:
        """What it is."""
    def _four(self) -> int:
        """Make it."""
    def five(self) -> None:
        """Write it."""
def six() -> str:
    """The name."""
'''
    assert first_words(ast.parse(source)) == ["one: Return the number.", "three: What it is."]


def names_of(target: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def bound_lines(function: Function) -> dict[str, list[int]]:
    """Lines on which each local of a function stands, without those of functions inside."""
    lines: dict[str, list[int]] = defaultdict(list)
    bound: set[str] = set()
    nodes = list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Name):
            lines[node.id].append(node.lineno)
            bound |= {node.id} if isinstance(node.ctx, ast.Store) else set()
        nodes += ast.iter_child_nodes(node)
    return {name: lines[name] for name in bound}


def long_lived(tree: ast.Module) -> list[str]:
    """Participles that name what lives long: module-level names, fields, attributes, parameters,
    and locals that are alive for more than `LONG_LINES` lines."""
    names = []
    for line in tree.body:
        if isinstance(line, ast.Assign | ast.AnnAssign):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            names += [name for target in targets for name in names_of(target)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            names += [name for field in fields for name in names_of(field.target)]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.attr)
        elif isinstance(node, Function):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            names += [argument.arg for argument in every]
            names += [
                name
                for name, lines in bound_lines(node).items()
                if max(lines) - min(lines) >= LONG_LINES
            ]
    return [name for name in names if name.strip("_").lower() in PARTICIPLES]


@pytest.mark.parametrize("folder", ["src/whence", "benchmarks", "tools"])
def test_no_participle_names_what_lives_long(folder: str) -> None:
    names = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / folder).rglob("*.py")
        for name in long_lived(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert sorted(names - WRITTEN_OUT) == []
    assert {entry for entry in WRITTEN_OUT if entry.startswith(f"{folder}/")} <= names


def test_a_participle_that_lives_long_would_be_found() -> None:
    short = "def one():\n    found = 1\n    return found\n"
    assert long_lived(ast.parse(short)) == []
    long = "def one():\n    found = 1\n" + "    print()\n" * 25 + "    return found\n"
    assert long_lived(ast.parse(long)) == ["found"]
    assert long_lived(ast.parse("KEPT = 1\nclass One:\n    made: int\n")) == ["KEPT", "made"]
    assert long_lived(ast.parse("def one(self, given):\n    self._asked = given\n")) == [
        "given",
        "_asked",
    ]
