"""What README and docs show is run: every `whence` line, every Python block, every make target,
every link to a file."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from whence import cli
from whence.data.formats import read_folders
from whence.data.predictions import write_predictions
from whence.evaluation.benchmarks import evaluate
from whence.registry import KINDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEED_TORCH = {"adding.md", "geowarp.md", "training.md", "describing.md", "models.md"}
INLINE = re.compile(r"`(whence [^`]+)`")


def blocks(page: Path, language: str) -> list[str]:
    return [
        body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language
    ]


def commands(page: Path) -> list[str]:
    lines = [
        line.split("#")[0].strip() for body in blocks(page, "bash") for line in body.splitlines()
    ]
    table_rows = [
        row for row in page.read_text(encoding="utf-8").splitlines() if row.startswith("|")
    ]
    lines += [command for row in table_rows for command in INLINE.findall(row)]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(street: Path, sf_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and files the pages speak of."""
    root = tmp_path_factory.mktemp("docs")
    shutil.copytree(street / "database", root / "photos")
    shutil.copytree(street / "queries", root / "holiday")
    shutil.copytree(street, root / "set")
    shutil.copytree(street, root / "set" / "val")
    shutil.copytree(sf_xl, root / "sfxl")
    shutil.copytree(street / "queries", root / "more")
    shutil.copy(sorted((street / "queries").iterdir())[2], root / "where.jpg")
    shutil.copy(sorted((street / "database").iterdir())[2], root / "other.jpg")
    for folder in ("database", "queries"):
        (root / "walks" / folder).mkdir(parents=True)
        for number, file in enumerate(sorted((street / folder).iterdir())):
            shutil.copy(file, root / "walks" / folder / f"{number:03d}.jpg")
    lines = [f"walks/queries/{n:03d}.jpg,walks/database/{n:03d}.jpg" for n in range(24)]
    (root / "pairs.csv").write_text("\n".join(["query,positives", *lines]))
    # Stand-ins for the real sets that the page of results names.
    shutil.copy(root / "pairs.csv", root / "positives.csv")
    shutil.copytree(root / "walks", root / "gardens-point")
    shutil.copytree(root / "photos", root / "lund")
    write_predictions(
        root / "theirs.csv", evaluate("rootsift-vlad", read_folders(root / "set")).ranked()
    )
    if importlib.util.find_spec("torch") is not None:
        write_weights(root)
    return root


def write_weights(root: Path) -> None:
    """Random weights under the names the page of GeoWarp speaks of."""
    import torch

    from whence.models.checkpoints.networks import convert
    from whence.models.warp.model import Regressor
    from whence.models.zoo import network_for
    from whence.registry import get_card

    card = get_card("gem-resnet18conv4-256-pitts30k")
    state = network_for(card).state_dict()
    torch.save(
        {name.replace("aggregator.p", "aggregation.1.p"): value for name, value in state.items()},
        root / "network.pth",
    )
    convert([root / "network.pth"], card=card, out=root / "network.safetensors")
    torch.save(Regressor().state_dict(), root / "regressor.pth")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if page.name in NEED_TORCH:
        pytest.importorskip("torch")
    shutil.copytree(place, tmp_path / "p", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "p")
    shown = commands(page)
    if any("--db" in command for command in shown):
        assert cli.run(["index", "photos/", "--db", "city.whence", "-q"]) == 0
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in shown:
        words = shlex.split(command)
        if words[0] == "whence":
            expected = 3 if "--near" in words else 0
            assert cli.run(words[1:]) in (0, expected), command
        elif words[0] == "make":
            assert words[1] in targets, command
        else:
            assert words[0] in ("pip", "python"), f"{command} is not tested"
            if words[0] == "python":
                assert (ROOT / words[1]).is_file(), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    if page.name in NEED_TORCH:
        pytest.importorskip("torch")
    for table in KINDS.values():
        monkeypatch.setattr(table, "_rows", dict(table))
    for body in blocks(page, "python"):
        exec(compile(body, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_verb_is_documented() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for verb in (
        "index",
        "locate",
        "match",
        "evaluate",
        "models",
        "warp",
        "world city",
        "doctor",
        "demo",
        "train",
        "study",
    ):
        assert f"whence {verb}" in text


def test_options_named_in_the_docs_exist(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    options = {
        option
        for verb in typer.main.get_command(cli.app).commands.values()  # type: ignore[attr-defined]
        for command in (verb, *getattr(verb, "commands", {}).values())
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options |= {
        option for parameter in typer.main.get_command(cli.app).params for option in parameter.opts
    }
    for page in PAGES:
        for option in re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8")):
            assert option in options, f"{page.name} names {option}"
