"""EarthLoc's protocol: rotations stored, merged and asked, by descriptors made by hand, and the
verb on a small world."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from descriptor_samples import CARD, NAME, MeanColours
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.evaluation_sets import open_set
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import NoPhotos
from whence.evaluation.orbital import (
    TURNS,
    describe_turned,
    score_orbital,
    search_asked,
    search_merged,
    search_stored,
)
from whence.lists import lists_of
from whence.models.descriptor import load_model
from whence.worlds.earth.plan import EarthSpec, RegionSize
from whence.worlds.earth.world import render_earth


def turned_rows(num: int, *, dim: int = 24) -> np.ndarray:
    """(4, N, D) unit rows by chance: every rotation of every tile is another."""
    rows = np.random.default_rng(1).normal(size=(TURNS, num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def test_stored_rotations_lie_one_after_the_other_and_are_not_merged():
    database = turned_rows(7)
    queries = database[[2, 0, 3], [4, 1, 6]]
    tiles, angles = search_stored(database, queries, k=100)
    assert tiles.shape == (3, 28)
    assert tiles[:, 0].tolist() == [4, 1, 6]
    assert angles[:, 0].tolist() == [180, 0, 270]
    assert [np.bincount(row).tolist() for row in tiles] == [[4] * 7] * 3
    # By the definition: all similarities of the flat list, sorted.
    slow = np.argsort(-(queries @ database.reshape(-1, 24).T), axis=1)
    assert (tiles == slow % 7).all()
    assert (angles == 90 * (slow // 7)).all()


def test_merged_tiles_come_once_at_their_best():
    database = turned_rows(7)
    queries = database[[2, 0], [4, 1]]
    tiles, angles = search_merged(database, queries, k=5)
    similarities = np.einsum("qd,tnd->qtn", queries, database)
    best = np.argsort(-similarities.max(axis=1), axis=1)[:, :5]
    assert (tiles == best).all()
    assert (angles == 90 * np.take_along_axis(similarities.argmax(axis=1), best, axis=1)).all()


def test_a_query_turned_back_finds_what_a_turned_tile_would():
    database, queries = turned_rows(6)[0], turned_rows(5)
    queries[1, 2] = database[3]
    tiles, angles = search_asked(database, queries, k=4)
    assert (tiles[2, 0], angles[2, 0]) == (3, 270)
    slow = np.argsort(-np.einsum("tqd,nd->qtn", queries, database).max(axis=1), axis=1)[:, :4]
    assert (tiles == slow).all()


def test_scores_count_queries_with_something_to_be_found():
    database = turned_rows(9)
    queries = np.repeat(database[1, [3, 5, 8, 2]][None], TURNS, axis=0)
    queries[0, 3] = np.nan
    positives = lists_of([np.array([3]), np.array([4]), np.array([], np.int64), np.array([2])])
    scores = {one.way: one for one in score_orbital(database, queries, positives)}
    assert {one.num_queries for one in scores.values()} == {2}
    assert scores["stored"].recall_at[0] == 0.5
    assert scores["stored"].hits.tolist() == [True, False]
    assert scores["merged"].recall_at[-1] == 1
    low, high = scores["stored"].intervals[0]
    assert 0 <= low <= 0.5 <= high <= 1
    # Tiles that could not be read are no answers.
    database[0, 3] = np.nan
    assert {one.way: one for one in score_orbital(database, queries, positives)}[
        "stored"
    ].recall_at[0] == 0
    with pytest.raises(NoPhotos, match="overlaps"):
        score_orbital(database, queries, lists_of([np.array([], np.int64)] * 4))


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    out = tmp_path_factory.mktemp("earth") / "world"
    render_earth(
        out,
        EarthSpec(2, (RegionSize("region00", "", 4, 4, (2021,)),), tile_px=32, photo_px=32),
        num_workers=1,
    )
    return out


def test_a_world_is_a_set_whose_truth_are_overlaps(earth):
    data = open_set(earth)
    assert (len(data.database), len(data.queries)) == (59, 4)
    assert (data.positives.counts >= 4).all()


def test_the_verb_prints_all_ways(earth, capsys, monkeypatch):
    monkeypatch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))
    assert run(["evaluate", str(earth), "--protocol", "earthloc", "--model", NAME, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_database"], found["num_counted"]) == (59, 4)
    for recalls in found["rotations"].values():
        values = [recalls[f"recall@{n}"] for n in (1, 5, 10, 20, 100)]
        assert values == sorted(values)
    # All of 59 tiles, each once, are among the first 100.
    assert (
        found["rotations"]["merged"]["recall@100"] == found["rotations"]["asked"]["recall@100"] == 1
    )
    assert run(["evaluate", str(earth), "--protocol", "earthloc", "--model", NAME]) == 0
    assert "four rotations of the query" in capsys.readouterr().out


def test_the_verb_takes_photos_of_another_folder(earth, tmp_path, capsys, monkeypatch):
    """Cameras of a world lie in folders of their own; what a protocol does not take is refused."""
    monkeypatch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))
    shutil.copytree(earth, tmp_path / "earth")
    photos = sorted((tmp_path / "earth" / "queries").iterdir())
    (tmp_path / "earth" / "queries_film").mkdir()
    photos[0].rename(tmp_path / "earth" / "queries_film" / photos[0].name)
    verb = ["evaluate", str(tmp_path / "earth"), "--protocol", "earthloc", "--model", NAME]
    counted = []
    for chosen in ([], ["--set", "queries_folder=queries_film"]):
        assert run([*verb, "--json", *chosen]) == 0
        counted.append(json.loads(capsys.readouterr().out)["num_queries"])
    assert counted == [3, 1]
    assert run([*verb, "--set", "queries_folder=elsewhere"]) == 1
    assert "elsewhere" in capsys.readouterr().err
    assert run([*verb, "--set", "speed=2"]) != 0
    assert "--set speed does nothing with --protocol earthloc" in capsys.readouterr().err


def test_turning_is_counter_clockwise_and_unreadable_tiles_are_named(earth, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))
    model = load_model(NAME)
    photos = open_set(earth).database
    found = describe_turned(model, photos, show_progress=False)
    image = model.read(photos.file(5))
    for turn in range(TURNS):
        assert np.allclose(
            found.rows[turn, 5], model.descriptor.describe([np.rot90(image, turn)])[0]
        )
    missing = scan_photos(photos.file(0)).with_columns()
    gone = Photos(["gone.jpg"], missing.columns, root=tmp_path)
    found = describe_turned(model, gone, show_progress=False)
    assert np.isnan(found.rows).all()
    assert [entry.path for entry in found.skipped] == ["gone.jpg"]


def test_the_verb_says_what_is_no_such_set(tmp_path, capsys):
    assert run(["evaluate", str(tmp_path), "--protocol", "earthloc"]) == 1
    assert "2021_09" in capsys.readouterr().err
