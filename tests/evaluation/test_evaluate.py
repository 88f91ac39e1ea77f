"""Evaluations: protocols, both conventions for queries without positives, leave-one-out, foreign
predictions, resuming."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo
from whence.cards import Preprocessing
from whence.data.formats import EvaluationSet, read_folders, read_frames, read_pairs
from whence.data.photos import Photos
from whence.data.predictions import (
    Ranked,
    read_hloc_pairs,
    read_predictions,
    write_hloc_pairs,
    write_predictions,
)
from whence.data.scan import scan_photos
from whence.errors import BadOption, CardMismatch, InputError, NoPhotos
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.foreign import evaluate_predictions
from whence.evaluation.protocol import (
    describe_photos,
    metric_ground,
    num_not_excluded,
    same_content,
    score_predictions,
)
from whence.evaluation.report import as_records, as_table
from whence.geo import from_local_metres, neighbors_within
from whence.lists import NeighborLists, lists_of
from whence.models.asking import QueryViews
from whence.registry import get_card
from whence.studies.shortlists import Shortlists
from whence.types import Candidate, GeoPoint, Photo, PlanePoint


def photos_at(points: list[GeoPoint | None], *, zone: str = "", contents: str = "") -> Photos:
    records = []
    for i, point in enumerate(points):
        plane = PlanePoint(10.0 * i, 5.0, zone) if zone else None
        records.append(
            Photo(
                path=f"{i}.jpg",
                content=f"{contents[i] if contents else i:0>32}",
                point=point,
                plane=plane,
            )
        )
    return Photos.of(records)


def along_street(metres: list[float], origin: GeoPoint) -> list[GeoPoint | None]:
    lat, lon = from_local_metres(np.array(metres), np.zeros(len(metres)), origin=origin)
    return [GeoPoint(float(a), float(b)) for a, b in zip(lat, lon, strict=True)]


def test_the_demo_street_is_solved_and_reported(street: Path) -> None:
    result = evaluate("rootsift-vlad", read_folders(street))
    at_25 = result.thresholds[1]
    assert (at_25.threshold_m, at_25.num_without_positives) == (25.0, 0)
    assert at_25.all_queries[0].num_right == 24
    assert "UTM metres, zone" in result.protocol
    assert np.nanmax(result.position_errors_m) < 10
    records = as_records(result)
    assert records["num_queries"] == 24
    assert {record["n"] for record in records["recalls"]} == {1, 5, 10, 20}
    assert records["position"]["within"][1]["num"] == 24
    assert as_table(result) is not None


def test_both_conventions_for_queries_without_positives() -> None:
    origin = GeoPoint(50, 10)
    database = photos_at(along_street([0, 100], origin))
    queries = photos_at([*along_street([1, 101, 5000], origin), None])
    predictions = np.array([[0, 1], [0, 1], [0, 1], [1, 0]])
    scored = score_predictions(
        predictions, EvaluationSet("x", database, queries), thresholds_m=[25], recall_at=[1, 2]
    )[0]
    assert scored.num_without_positives == 2
    assert [(one.num_right, one.num_queries) for one in scored.all_queries] == [(1, 4), (2, 4)]
    assert [(one.num_right, one.num_queries) for one in scored.with_positives] == [(1, 2), (2, 2)]


def test_positives_are_right_across_a_zone_edge_and_the_antimeridian() -> None:
    for origin in (GeoPoint(50.0, 12.0), GeoPoint(-17.0, 180.0), GeoPoint(0.0, 6.0)):
        database, queries = (
            photos_at(along_street([-9.0, 300.0], origin)),
            photos_at(along_street([9.0], origin)),
        )
        scored = score_predictions(
            np.array([[0]]),
            EvaluationSet("x", database, queries),
            thresholds_m=[17.9, 18.1],
            recall_at=[1],
        )
        assert [one.all_queries[0].num_right for one in scored] == [0, 1]


def test_which_coordinates_count() -> None:
    here = [GeoPoint(50, 10)] * 2
    same = metric_ground(photos_at(here, zone="32U"), photos_at(here, zone="32U"))
    assert "zone 32U" in same.description
    assert same.database.tolist() == [[0, 5], [10, 5]]
    assert (
        "WGS84"
        in metric_ground(photos_at(here, zone="32U"), photos_at(here, zone="33U")).description
    )
    assert "WGS84" in metric_ground(photos_at(here, zone="32U"), photos_at(here)).description


def test_names_without_a_zone_are_metres_on_a_plane(tmp_path: Path) -> None:
    for folder, run in (("database", 0), ("queries", 9)):
        for place in range(5):
            image = view_of(draw_place(place), shift=run, seed=run)
            write_photo(tmp_path / folder / f"@0@{place * 100}@@@@@{place}@@@@@@@@.png", image)
    result = evaluate("rootsift-vlad", read_folders(tmp_path))
    assert "no zone" in result.protocol
    assert result.thresholds[1].all_queries[0].num_right == 5


def test_leave_one_out_leaves_out_the_same_content() -> None:
    photos = photos_at(along_street([0, 1, 2, 500], GeoPoint(50, 10)), contents="aabc")
    own = same_content(photos)
    assert [own.of(i).tolist() for i in range(4)] == [[0, 1], [0, 1], [2], [3]]
    near = neighbors_within(
        metric_ground(photos, photos).database, metric_ground(photos, photos).queries, radius_m=25
    )
    assert num_not_excluded(near, own).tolist() == [1, 1, 2, 0]
    assert num_not_excluded(near, None).tolist() == [3, 3, 3, 1]
    empty = NeighborLists(np.zeros(5, np.int64), np.empty(0, np.int64))
    assert num_not_excluded(empty, own).tolist() == [0, 0, 0, 0]


def test_leave_one_out_on_photos(street: Path, tmp_path: Path) -> None:
    shutil.copytree(street / "database", tmp_path / "a")
    for file in sorted((street / "database").iterdir())[:6]:
        shutil.copy(file, tmp_path / "a" / f"copy of {file.name}")
    for file in sorted((street / "queries").iterdir())[:10]:
        shutil.copy(file, tmp_path / "a")
    photos = scan_photos(tmp_path / "a")
    options = EvaluationOptions(is_leave_one_out=True, thresholds_m=(25.0,))
    result = evaluate("rootsift-vlad", EvaluationSet("a", photos, photos), options=options)
    own = same_content(photos)
    for q in range(len(photos)):
        assert not np.isin(result.predictions[q], own.of(q)).any()
    scored = result.thresholds[0]
    # Ten places were seen in both runs: their photos find each other; the other fourteen have only
    # themselves, or their own copy.
    assert len(photos) - scored.num_without_positives == 26
    assert scored.with_positives[0].num_right == scored.with_positives[0].num_queries == 26
    assert "leave-one-out" in result.protocol


def test_listed_pairs_and_frames(street: Path, tmp_path: Path) -> None:
    for folder in ("database", "queries"):
        for number, file in enumerate(sorted((street / folder).iterdir())):
            target = tmp_path / folder / f"{number:03d}.jpg"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    lines = ["query,positives"] + [f"queries/{n:03d}.jpg,database/{n:03d}.jpg" for n in range(24)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    listed = evaluate("rootsift-vlad", read_pairs(tmp_path / "pairs.csv"))
    assert listed.thresholds[0].threshold_m is None
    assert listed.thresholds[0].all_queries[0].num_right == 24
    walks = evaluate("rootsift-vlad", read_frames(tmp_path, tolerance_frames=1))
    assert walks.thresholds[0].all_queries[0].num_right == 24
    assert as_records(walks)["position"] is None


def test_unreadable_queries_fail_and_unreadable_database_photos_are_left_out(
    street: Path, tmp_path: Path
) -> None:
    shutil.copytree(street, tmp_path / "s")
    database, queries = (
        sorted((tmp_path / "s" / name).iterdir()) for name in ("database", "queries")
    )
    for file in (database[0], queries[5]):
        file.write_bytes(file.read_bytes()[:3000])
    result = evaluate("rootsift-vlad", read_folders(tmp_path / "s"))
    assert len(result.skipped) == 2
    assert (result.predictions[5] == -1).all()
    assert not (result.predictions == 0).any()
    assert result.thresholds[1].all_queries[0].num_right == 22
    assert np.isnan(result.position_errors_m[5])
    assert as_records(result)["position"]["median_error_m"] < 10


def test_a_work_folder_keeps_descriptors(street: Path, tmp_path: Path) -> None:
    data, options = read_folders(street), EvaluationOptions(work_folder=tmp_path / "work")
    first = evaluate("rootsift-vlad", data, options=options)
    again = evaluate("rootsift-vlad", data, options=options)
    plain = evaluate("rootsift-vlad", data)
    assert np.array_equal(first.predictions, again.predictions)
    assert np.array_equal(first.predictions, plain.predictions)
    with pytest.raises(CardMismatch):
        evaluate("densevlad", data, options=options)


def test_foreign_predictions_score_like_ours(street: Path, tmp_path: Path) -> None:
    data = read_folders(street)
    ours = evaluate("rootsift-vlad", data)
    write_predictions(tmp_path / "p.csv", ours.ranked())
    write_hloc_pairs(tmp_path / "p.txt", ours.ranked())
    for ranked in (read_predictions(tmp_path / "p.csv"), read_hloc_pairs(tmp_path / "p.txt")):
        theirs = evaluate_predictions(ranked, data, name="p")
        assert np.array_equal(theirs.predictions, ours.predictions)
        assert theirs.thresholds == ours.thresholds


def test_foreign_predictions_that_do_not_fit(street: Path) -> None:
    data = read_folders(street)
    query, photo = data.queries.paths[0], data.database.paths[0]
    with pytest.raises(InputError, match="nonsense"):
        evaluate_predictions([Ranked("nonsense.jpg", ())], data, name="p")
    with pytest.raises(InputError, match="else"):
        evaluate_predictions([Ranked(query, (Candidate("else.jpg", 1, 0.5),))], data, name="p")
    partial = evaluate_predictions([Ranked(query, (Candidate(photo, 1, 0.5),))], data, name="p")
    assert partial.thresholds[1].all_queries[0].num_right == 1
    assert partial.thresholds[1].all_queries[0].num_queries == 24
    itself = EvaluationSet("x", data.database, data.database)
    with pytest.raises(InputError, match="itself"):
        evaluate_predictions(
            [Ranked(photo, (Candidate(photo, 1, 1.0),))],
            itself,
            name="p",
            options=EvaluationOptions(is_leave_one_out=True),
        )


def test_what_a_set_passes_over_is_neither_right_nor_wrong(street: Path) -> None:
    photos = scan_photos(street / "database").select(np.arange(12))
    plain = evaluate("rootsift-vlad", EvaluationSet("x", photos, photos))
    assert plain.predictions[:, 0].tolist() == list(range(12)), "every photo finds itself"
    data = EvaluationSet(
        "x", photos, photos, passed_over=lists_of([np.sort(rows[:3]) for rows in plain.predictions])
    )
    result = evaluate("rootsift-vlad", data)
    assert np.array_equal(result.predictions[:, :5], plain.predictions[:, 3:8])
    assert "passes over" in result.protocol
    theirs = evaluate_predictions(plain.ranked(), data, name="p")
    assert np.array_equal(theirs.predictions[:, :5], plain.predictions[:, 3:8])
    found = Shortlists(data, model="rootsift-vlad", work=None).found
    assert found.shape == (12, 9), "as many as every query has"
    assert np.array_equal(found[:, :5], plain.predictions[:, 3:8])


def test_impossible_evaluations(street: Path) -> None:
    data = read_folders(street)
    nothing = Photos.of([])
    with pytest.raises(NoPhotos):
        evaluate("rootsift-vlad", EvaluationSet("x", nothing, data.queries))
    with pytest.raises(BadOption):
        EvaluationOptions(recall_at=(0,))
    with pytest.raises(BadOption):
        score_predictions(np.zeros((24, 1), int), data, thresholds_m=[0])
    with pytest.raises(BadOption):
        score_predictions(np.full((24, 1), 99), data)


@pytest.mark.parametrize(
    ("database", "queries", "views", "words"),
    [
        (Preprocessing(), Preprocessing(), None, "photos in their own size"),
        (
            get_card("cosplace-resnet18-512").preprocessing,
            None,
            None,
            "photos with a short side of 512 pixels at most",
        ),
        (
            get_card("eigenplaces-vgg16-512").preprocessing,
            None,
            None,
            "photos with a short side of 512 pixels at most",
        ),
        (
            get_card("divide-and-classify-efficientnet_b0-1280").preprocessing,
            None,
            None,
            "photos with a short side of 256 pixels",
        ),
        (Preprocessing(size_px=(480, 640)), None, None, "photos at 480 x 640 pixels"),
        (
            Preprocessing(long_side_px=320, multiple_of=14),
            Preprocessing(),
            None,
            (
                "database photos with a long side of 320 pixels at most, sides multiples of 14, "
                "queries in their own size"
            ),
        ),
        (
            Preprocessing(size_px=(480, 640)),
            None,
            QueryViews("five_crops", (300, 400)),
            (
                "database photos at 480 x 640 pixels, queries in the mode five_crops at 300 x 400 "
                "pixels"
            ),
        ),
    ],
)
def test_the_protocol_says_how_photos_of_both_sides_are_brought(
    database: Preprocessing, queries: Preprocessing | None, views: QueryViews | None, words: str
) -> None:
    assert describe_photos(database, queries or database, views) == words
