"""Every published set is read from a world written in its layout; what is missing says where it
comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whence import cli
from whence.data.drives import list_cities
from whence.data.evaluation_sets import open_set, recognise
from whence.data.formats import EvaluationSet
from whence.errors import BadOption, NoPhotos, UnknownName
from whence.evaluation.protocol import has_positives
from whence.evaluation.published import (
    OFFICIAL_QUERIES,
    PUBLISHED,
    find_set,
    get_published,
    open_published,
    sizes_note,
)
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

LAYOUT_OF = {
    **dict.fromkeys(
        ("pitts30k", "pitts250k", "tokyo247", "st_lucia", "eynsham", "san_francisco"), "benchmark"
    ),
    **dict.fromkeys(("amstertime", "sped"), "pairs"),
    "nordland": "nordland",
    **dict.fromkeys((name for name in PUBLISHED if name.startswith("msls")), "msls"),
    **dict.fromkeys((name for name in PUBLISHED if name.startswith("sf_xl")), "sf_xl"),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small world in each layout; Mapillary's with its two validation cities and one of
    training."""
    root = tmp_path_factory.mktemp("published")
    conditions = {"day": 1.0, "overcast": 1.0, "night": 1.0, "occluded": 1.0}
    capture = CaptureOptions(width=64, height=48, conditions=conditions)
    for layout in sorted(set(LAYOUT_OF.values())):
        names = ("cph", "sf", "city03") if layout == "msls" else ("city00",)
        cities = tuple(CitySize(name, "", 12, 8, 0) for name in names)
        if layout == "sf_xl":
            cities = (CitySize("city00", "val", 8, 4, 0), CitySize("city01", "test", 16, 12, 0))
        options = WorldOptions(capture=capture, cities=cities, px_per_m=8)
        render_world(root / layout, seed=4, layout=layout, options=options, num_workers=1)
    found = read(root / "msls", "msls-val")
    keys = [Path(path).stem for path in found.queries.paths[::3]]
    (root / "msls" / OFFICIAL_QUERIES).write_text("\n".join(keys))
    return {layout: root / layout for layout in set(LAYOUT_OF.values())}


def read(root: Path, name: str) -> EvaluationSet:
    return open_published(name, root)


def test_every_published_set_has_a_world() -> None:
    assert set(LAYOUT_OF) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_set_is_read(name: str, worlds: dict[str, Path]) -> None:
    data = read(worlds[LAYOUT_OF[name]], name)
    assert data.name == name
    assert len(data.database) > 0
    assert len(data.queries) > 0
    assert has_positives(data, threshold_m=25.0).any()
    known = get_published(name)
    assert sizes_note(name, data) or not (known.num_database or known.num_queries)
    alike = replace(known, num_database=len(data.database), num_queries=len(data.queries))
    assert alike.thresholds_m == (25.0,)


def test_mock_positions_make_the_right_frames_positives(worlds: dict[str, Path]) -> None:
    """Nordland's are right within 10 frames, pairs only with each other."""
    for name, reach in (("nordland", 10), ("amstertime", 0)):
        data = read(worlds[LAYOUT_OF[name]], name)
        frames = [
            np.array([int(Path(path).name.split("@")[7]) for path in side.paths])
            for side in (data.database, data.queries)
        ]
        gaps = np.abs(data.database.north_m[:, None] - data.queries.north_m[None])
        assert ((gaps <= 25) == (np.abs(frames[0][:, None] - frames[1][None]) <= reach)).all()


def test_the_conventions_of_msls(worlds: dict[str, Path]) -> None:
    root = worlds["msls"]
    assert recognise(root) == "msls"
    assert list_cities(root) == ("city03", "cph", "sf")
    whole, official, train = (
        read(root, name) for name in ("msls-val", "msls-val-official", "msls-train")
    )
    assert {path.split("/")[0] for path in whole.database.paths} == {"cph", "sf"}
    assert {path.split("/")[0] for path in train.queries.paths} == {"city03"}
    assert len(official.database) == len(whole.database)
    assert 0 < len(official.queries) < len(whole.queries)
    assert set(official.queries.paths) < set(whole.queries.paths)
    assert len(official.notes) == len(official.queries)
    assert {note.split("_")[0] for note in whole.notes} <= {"day", "night"}
    assert len(open_set(root, split="city03,sf").database) > 0
    with pytest.raises(UnknownName, match="city03"):
        open_set(root, split="city3")


def test_the_queries_of_sf_xl(worlds: dict[str, Path]) -> None:
    root = worlds["sf_xl"]
    sets = {name: read(root, name) for name in PUBLISHED if name.startswith("sf_xl-test")}
    assert len({one.queries.root for one in sets.values()}) == 4
    assert len({one.database.root for one in sets.values()}) == 1
    assert read(root, "sf_xl-val").database.root != sets["sf_xl-test-v1"].database.root
    assert len(open_set(root).queries) == len(sets["sf_xl-test-v1"].queries)


def test_what_is_missing_says_where_it_comes_from(worlds: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(NoPhotos, match=r"Arandjelovic.*DATASETS_FOLDER"):
        find_set("pitts30k", folder=None)
    with pytest.raises(NoPhotos, match="mapillary"):
        find_set("msls-val", folder=None, datasets=str(tmp_path))
    (tmp_path / "msls").mkdir()
    assert find_set("msls-val", folder=None, datasets=str(tmp_path)) == tmp_path / "msls"
    with pytest.raises(NoPhotos, match="CosPlace"):
        open_published("sf_xl-test-v2", worlds["benchmark"].parent / "sf_xl" / "processed" / "val")
    with pytest.raises(UnknownName, match="pitts30k"):
        get_published("pits30k")
    (tmp_path / "gsv" / "Dataframes").mkdir(parents=True)
    (tmp_path / "gsv" / "Images").mkdir()
    with pytest.raises(BadOption, match="to train on"):
        open_set(tmp_path / "gsv")


def test_official_queries_need_their_list(worlds: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "train_val").symlink_to(worlds["msls"] / "train_val")
    with pytest.raises(NoPhotos, match="mapillary_sls"):
        open_published("msls-val-official", tmp_path)
    (tmp_path / OFFICIAL_QUERIES).write_text("nobody\n")
    with pytest.raises(NoPhotos, match="of which 0 are there"):
        open_published("msls-val-official", tmp_path)


def test_the_command_knows_the_names(
    worlds: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATASETS_FOLDER", str(worlds["nordland"].parent))
    assert cli.run(["evaluate", "nordland", "--json"]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert record["set"] == "nordland"
    assert {entry["threshold_m"] for entry in record["recalls"]} == {25.0}
    assert "do not compare" in shown.err
    assert cli.run(["evaluate", str(worlds["benchmark"]), "--protocol", "pitts30k", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["set"] == "pitts30k"
    assert cli.run(["evaluate", "tokyo247"]) == 1
    assert "Arandjelovic" in capsys.readouterr().err
    assert cli.run(["evaluate", "nordland", "--set", "split=val"]) == 1
    assert "split" in capsys.readouterr().err
