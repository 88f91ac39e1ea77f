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
NUM_PLACES = 12
INLINE = re.compile(r"`(whence [^`]+)`")


def name_of(page: Path) -> str:
    return page.name


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
def template(street: Path, sf_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and files the pages speak of, and a database of photos/, once for all pages."""
    root = tmp_path_factory.mktemp("docs") / "here"
    root.mkdir()
    # Half of the street's places: what is shown runs on few photos as on many.
    whole, street = street, root.parent / "street"
    for folder in ("database", "queries"):
        (street / folder).mkdir(parents=True)
        for file in sorted((whole / folder).iterdir())[:NUM_PLACES]:
            shutil.copy(file, street / folder)
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
    lines = [f"walks/queries/{n:03d}.jpg,walks/database/{n:03d}.jpg" for n in range(NUM_PLACES)]
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
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert cli.run(["index", "photos/", "--db", "city.whence", "-q"]) == 0
    return Path(shutil.copytree(root, root.with_name("template")))


@pytest.fixture
def place(template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them where they were made, which a database remembers; the working folder."""
    root = template.with_name("here")
    shutil.rmtree(root)
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
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


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_run(page: Path, place: Path) -> None:
    if page.name in NEED_TORCH:
        pytest.importorskip("torch")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in commands(page):
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


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_runs(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "city.whence").rename(place / "other.whence")
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
