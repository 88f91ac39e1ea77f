"""Parts of one's own: registered in a program, and by an installed package whose module the entry
point group names."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import whence
from whence import registry
from whence.cards import ModelCard, Preprocessing
from whence.cli import run
from whence.data.evaluation_sets import ENTRIES, Folders, SetOptions, open_set, recognise
from whence.data.formats import EvaluationSet
from whence.errors import BadOption, UnknownName
from whence.registry import KINDS, get_entry, register

HAS_TORCH = importlib.util.find_spec("torch") is not None
CARD = ModelCard("mine", "a sample", 8, Preprocessing(), licence="MIT")
PLUGIN = """
import dataclasses

import cv2
import numpy as np

import whence
from whence.cards import Preprocessing
from whence.data.evaluation_sets import Folders
from whence.parts import Descriptor

SIZE = Preprocessing(size_px=(60, 80), interpolation="bilinear")
card = whence.ModelCard("mine", "a sample", dim=48, licence="MIT", preprocessing=SIZE)
whence.register("model", "mine", "mine_vpr:Means", card=card)
network_card = dataclasses.replace(card, name="mine-network")
whence.register("model", "mine-network", "mine_network:open_mine", card=network_card)
whence.register("aggregator", "half", "mine_network:Half")


class Means(Descriptor):
    dim = 48

    def describe(self, images):
        small = [cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA) for image in images]
        rows = [image.astype(np.float32).ravel() - 120 for image in small]
        unit = [row / max(np.linalg.norm(row), 1e-9) for row in rows]
        return np.array(unit, np.float32).reshape(-1, 48)


class Sides(Folders):
    def fits(self, path):
        return (path / "left").is_dir()

    def read(self, path, options):
        sides = {"database_folder": "left", "queries_folder": "right"}
        return super().read(path, dataclasses.replace(options, **sides))


whence.register("layout", "sides", Sides)
"""
NETWORK = """
import torch
from torch import nn

from whence.models.aggregators.pools import Aggregator
from whence.models.modules import ModuleDescriptor


def open_mine(seed: int = 0) -> ModuleDescriptor:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    return ModuleDescriptor(network, dim=48)


class Half(Aggregator):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels

    def forward(self, features):
        return features.map.flatten(2).median(dim=2).values
"""


@pytest.fixture(autouse=True)
def _only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for table in KINDS.values():
        monkeypatch.setattr(table, "_rows", dict(table))


def install(site: Path, name: str, files: dict[str, str], points: str) -> None:
    """Put a package where `site` is on the path, as an installer would."""
    for file, text in files.items():
        (site / file).write_text(text)
    folder = site / f"{name}-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (folder / "entry_points.txt").write_text(f"[whence]\n{points}\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: one that works, and three that do not."""
    site = tmp_path_factory.mktemp("site")
    install(site, "mine", {"mine_vpr.py": PLUGIN, "mine_network.py": NETWORK}, "mine = mine_vpr")
    install(
        site, "broken", {"broken_vpr.py": "import nothing_of_the_kind\n"}, "broken = broken_vpr"
    )
    install(site, "leaving", {"leaving_vpr.py": "raise SystemExit(7)\n"}, "leaving = leaving_vpr")
    install(
        site,
        "taken",
        {"taken_vpr.py": "import whence\nwhence.register('index', 'flat', dict)\n"},
        "taken = taken_vpr",
    )
    return site


def call(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "whence", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def test_an_installed_package_adds_its_parts_and_broken_ones_are_named(site: Path) -> None:
    found = call(site, "models", "mine", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["dim"] == 48
    lines = found.stderr.splitlines()
    assert len(lines) == 3, "one line for each that cannot be loaded, and no traceback"
    for name, why in (
        ("broken", "nothing_of_the_kind"),
        ("leaving", "7"),
        ("taken", "choose another name"),
    ):
        line = next(line for line in lines if f"'{name}'" in line)
        assert line.startswith("warning: the plug-in")
        assert why in line
    assert call(site, "models", "rootsift-vlad", "--json").returncode == 0


def test_what_needs_no_plugin_loads_none(site: Path, tmp_path: Path, street: Path) -> None:
    found = call(
        site, "index", street / "queries", "--db", tmp_path / "a.whence", "-q", "--no-calibrate"
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_the_command_works_with_an_installed_model(
    site: Path, tmp_path: Path, street: Path
) -> None:
    database = tmp_path / "a.whence"
    made = call(
        site,
        "index",
        street / "database",
        "--db",
        database,
        "--model",
        "mine",
        "-q",
        "--json",
        "--no-calibrate",
    )
    assert made.returncode == 0, made.stderr
    query = sorted((street / "queries").iterdir())[0]
    located = call(site, "locate", query, "--db", database, "--json", "--no-verify")
    assert located.returncode == 0, located.stderr
    assert json.loads(located.stdout)["candidates"]
    shutil.copytree(street / "database", tmp_path / "set" / "left")
    shutil.copytree(street / "queries", tmp_path / "set" / "right")
    for named in ([], ["--layout", "sides"]):
        judged = call(site, "evaluate", tmp_path / "set", "--model", "mine", "--json", *named)
        assert judged.returncode == 0, judged.stderr
        assert "recalls" in judged.stdout or "recall" in judged.stdout
    refused = call(site, "evaluate", tmp_path / "set", "--layout", "side")
    assert refused.returncode == 1
    assert "'sides'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(
    not HAS_TORCH or importlib.util.find_spec("onnxscript") is None, reason="onnx is not installed"
)
def test_an_installed_model_is_exported(site: Path, tmp_path: Path) -> None:
    written = call(site, "export", "mine-network", "--onnx", tmp_path / "mine.onnx", "--json")
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "mine.onnx").stat().st_size > 1000


def test_the_database_of_a_laid_out_set_is_indexed(
    tmp_path: Path, street: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register("layout", "once", OneSided)
    shutil.copytree(street / "queries", tmp_path / "set" / "once")
    (tmp_path / "set" / "other").mkdir()
    shutil.copy(sorted((street / "database").iterdir())[0], tmp_path / "set" / "other")
    database = str(tmp_path / "a.whence")
    made = [
        "index",
        str(tmp_path / "set"),
        "--db",
        database,
        "--layout",
        "once",
        "-q",
        "--json",
        "--no-calibrate",
    ]
    assert run(made) == 0
    assert json.loads(capsys.readouterr().out)["num_photos"] == len(
        list((street / "queries").iterdir())
    )
    assert (
        run(
            [
                "locate",
                str(sorted((street / "queries").iterdir())[0]),
                "--db",
                database,
                "--json",
                "--no-verify",
            ]
        )
        == 0
    )
    assert "once" in json.loads(capsys.readouterr().out)["candidates"][0]["photo"]
    assert run(made) == 0, "the same command again adds nothing"
    assert json.loads(capsys.readouterr().out)["num_described"] == 0
    assert run(["database", "refresh", "--db", database]) == 1
    assert "knows no folders" in capsys.readouterr().err
    assert run([*made[:2], "other", *made[2:]]) == 1
    assert "folder of one set" in capsys.readouterr().err
    assert run([*made[:-4], "onec"]) == 1
    assert "once" in capsys.readouterr().err


def test_what_may_be_registered_is_checked() -> None:
    with pytest.raises(UnknownName, match="model"):
        register("modle", "mine", dict)
    for kind in ("model", "scorer", "matcher"):
        with pytest.raises(BadOption, match="needs a card"):
            register(kind, "mine", dict)
        register(kind, "mine", dict, card=CARD)
        assert get_entry(kind, "mine").card == CARD
        with pytest.raises(BadOption, match="choose another name"):
            register(kind, "mine", dict, card=CARD)
    assert "mine" in whence.list_models()
    register("aggregator", "lost", "nowhere.at.all:Thing")
    with pytest.raises(BadOption, match=r"aggregator lost cannot be made: nowhere\.at\.all:Thing"):
        registry.build("aggregator", "lost")
    register("aggregator", "nameless", "json:Thing")
    with pytest.raises(BadOption, match="Thing"):
        registry.build("aggregator", "nameless")


class OneSided:
    """A layout with one folder on both sides."""

    def fits(self, path: Path) -> bool:
        return (path / "once").is_dir()

    def read(self, path: Path, options: SetOptions) -> EvaluationSet:
        photos = whence.scan_photos(path / "once")
        return EvaluationSet(f"once{options.split}", photos, photos)


class Careless(OneSided):
    """A layout that cannot look."""

    def fits(self, path: Path) -> bool:
        raise RuntimeError("no look")


def test_ones_own_layout_is_asked_first_and_by_name(tmp_path: Path, street: Path) -> None:
    shutil.copytree(street / "queries", tmp_path / "once")
    shutil.copytree(street / "database", tmp_path / "database")
    shutil.copytree(street / "queries", tmp_path / "queries")
    assert recognise(tmp_path) == "folders"
    register("layout", "once", OneSided)
    assert recognise(tmp_path) == "once"
    assert recognise(street) == "folders"
    assert open_set(tmp_path, split="-val").name == "once-val"
    assert len(open_set(tmp_path, layout="folders").database) == len(
        list((street / "database").iterdir())
    )
    with pytest.raises(UnknownName, match="once"):
        open_set(tmp_path, layout="onec")
    register("layout", "careless", Careless)
    with pytest.warns(UserWarning, match="'careless' is passed over: no look"):
        assert recognise(tmp_path) == "once"


def test_the_layouts_that_come_along_are_each_told_apart(tmp_path: Path, street: Path) -> None:
    assert tuple(KINDS["layout"]) == tuple(ENTRIES)
    assert Folders().fits(tmp_path), "the last that is asked takes everything"
    (tmp_path / "sf" / "processed").mkdir(parents=True)
    (tmp_path / "gsv" / "Dataframes").mkdir(parents=True)
    (tmp_path / "gsv" / "Images").mkdir()
    (tmp_path / "pairs.csv").write_text("query,positives\n")
    names = {name: recognise(tmp_path / name) for name in ("sf", "gsv", "pairs.csv", "nothing")}
    assert names == {"sf": "sf_xl", "gsv": "gsv_cities", "pairs.csv": "pairs", "nothing": "folders"}
