"""Evaluation layouts and files of predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whence.data.formats import (
    natural_key,
    read_folders,
    read_frames,
    read_pairs,
    read_positive_rows,
)
from whence.data.names import format_name
from whence.data.predictions import (
    Ranked,
    read_hloc_pairs,
    read_predictions,
    write_hloc_pairs,
    write_predictions,
)
from whence.errors import BadOption, InputError, NoPhotos, UnreadableTable
from whence.types import Candidate, GeoPoint, Position


def save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path, "PNG")


@pytest.mark.parametrize("database", ["database", "gallery", "reference", "ref"])
@pytest.mark.parametrize(
    ("inside", "split", "name"),
    [
        ("", "", "city"),
        ("images/test", "", "city"),
        ("test", "", "city"),
        ("val", "val", "city/val"),
        ("images/val", "val", "city/val"),
    ],
)
def test_folders(tmp_path: Path, database: str, inside: str, split: str, name: str) -> None:
    root = tmp_path / "city"
    places = [format_name(point=GeoPoint(55.0 + i / 100, 13.0)) for i in range(3)]
    save(
        *(root / inside / database / place for place in places),
        root / inside / "queries" / places[1],
    )
    made = read_folders(root, split=split)
    assert made.name == name
    assert made.database.paths == tuple(sorted(places))
    assert made.database.root == root / inside / database
    assert made.queries.paths == (places[1],)
    assert made.database.has_point.all()
    assert made.positives is None


def test_folders_given_by_name_and_table(tmp_path: Path) -> None:
    save(
        tmp_path / "summer" / "1.png", tmp_path / "winter" / "1.png", tmp_path / "winter" / "2.png"
    )
    (tmp_path / "positions.csv").write_text("path,lat,lon\nwinter/1.png,1,2\n")
    made = read_folders(tmp_path, database_folder="summer", queries_folder="winter")
    assert made.queries[0].point == GeoPoint(1.0, 2.0)
    assert not made.database.has_point.any()
    (tmp_path / "other.csv").write_text("path,lat,lon\nsummer/1.png,3,4\n")
    made = read_folders(
        tmp_path,
        database_folder="summer",
        queries_folder="winter",
        positions=tmp_path / "other.csv",
    )
    assert made.database[0].point == GeoPoint(3.0, 4.0)
    (tmp_path / "positions.csv").write_text("path,lat,lon\nelse.png,1,2\n")
    with pytest.raises(UnreadableTable, match="none of the 3 photos"):
        read_folders(tmp_path, database_folder="summer", queries_folder="winter")


def test_folders_with_lists_keep_their_order(tmp_path: Path) -> None:
    save(*(tmp_path / "database" / f"{name}.png" for name in "abc"), tmp_path / "queries" / "q.png")
    (tmp_path / "database_images_paths.txt").write_text("c.png\na.png\n")
    made = read_folders(tmp_path)
    assert made.database.paths == ("c.png", "a.png")
    assert made.database.root == tmp_path / "database"


def test_missing_or_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(NoPhotos, match="is not a folder"):
        read_folders(tmp_path / "nowhere")
    save(tmp_path / "database" / "a.png")
    with pytest.raises(NoPhotos, match="queries_folder"):
        read_folders(tmp_path)
    (tmp_path / "queries").mkdir()
    with pytest.raises(NoPhotos, match="no photos in"):
        read_folders(tmp_path)
    (tmp_path / "queries" / "q.png").write_text("text")
    with pytest.raises(NoPhotos, match=r"q\.png"):
        read_folders(tmp_path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    save(
        *(tmp_path / "db" / f"{i}.png" for i in range(4)),
        *(tmp_path / "q" / f"{i}.png" for i in range(3)),
    )
    return tmp_path / "pairs.csv"


def test_pairs(pairs: Path) -> None:
    pairs.write_text(
        "query,positives\nq/2.png,db/3.png;db/1.png\nq/0.png, db/0.png "
        ";\nq/1.png,\nq/2.png,db/0.png\n"
    )
    made = read_pairs(pairs)
    assert made.name == pairs.parent.name
    assert made.database.paths == ("0.png", "1.png", "2.png", "3.png")
    assert made.queries.paths == ("2.png", "0.png", "1.png")
    assert made.positives is not None
    assert [made.positives.of(i).tolist() for i in range(3)] == [[0, 1, 3], [0], []]


@pytest.mark.parametrize("header", ["Query,Ref", "\ufeffquery\treference", "other,query,positive"])
def test_pairs_headers(pairs: Path, header: str) -> None:
    separator = "\t" if "\t" in header else ","
    before = ["x"] if header.startswith("other") else []
    pairs.write_text(
        header + "\n" + separator.join([*before, "q/0.png", "db/1.png"]) + "\n", encoding="utf-8"
    )
    made = read_pairs(pairs)
    assert made.positives is not None
    assert made.positives.of(0).tolist() == [1]


def test_pairs_with_photos_in_one_folder(pairs: Path) -> None:
    pairs.write_text("query,positives\ndb/0.png,db/1.png\n")
    made = read_pairs(pairs)
    assert made.database.paths == ("1.png", "2.png", "3.png")
    pairs.write_text("query,positives\nq/0.png,\n")
    with pytest.raises(NoPhotos, match="must be given"):
        read_pairs(pairs)
    made = read_pairs(pairs, database_folder="db")
    assert len(made.database) == 4
    assert made.positives is not None
    assert made.positives.counts.tolist() == [0]


def test_pairs_that_pass_over_photos(pairs: Path) -> None:
    pairs.write_text(
        "query,positives,ignore\ndb/0.png,db/1.png,db/3.png;db/1.png; "
        ";q/0.png\ndb/2.png,db/1.png\nq/1.png,db/0.png,\n"
    )
    made = read_pairs(pairs)
    assert made.database.paths == ("0.png", "1.png", "2.png", "3.png"), (
        "a query that can be found stays where it is"
    )
    assert made.positives is not None
    assert made.passed_over is not None
    assert [made.positives.of(i).tolist() for i in range(3)] == [[1], [1], [0]]
    assert [made.passed_over.of(i).tolist() for i in range(3)] == [[0, 3], [2], []], (
        "itself and what is named, no positive"
    )


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a,b\n", 1, "needed are query and positives"),
        ("query;positives\nq/0.png;db/1.png\n", 1, "needed are query and positives"),
        (
            "query,positives\nq/0.png,db/0.png\nq/1.png,db/9.png\n",
            3,
            r"9\.png' is not a readable photo of the database",
        ),
        ("query,positives\nq/7.png,db/0.png\n", 2, r"7\.png' is not a readable photo"),
        ("query,positives\nq/0.png\n", 2, "without query or positives"),
        ("query,positives\n,db/0.png\n", 2, "without a query"),
        ('query,positives\n"q/0.png,db/0.png\n', 2, "unexpected end"),
    ],
)
def test_broken_pairs(pairs: Path, text: str, line: int, reason: str) -> None:
    pairs.write_text(text)
    with pytest.raises(UnreadableTable, match=reason) as caught:
        read_pairs(pairs)
    assert caught.value.line == line
    for empty in ("", "query,positives\n"):
        pairs.write_text(empty)
        with pytest.raises(NoPhotos):
            read_pairs(pairs)


def test_frames_by_order(tmp_path: Path) -> None:
    save(
        *(tmp_path / "ref" / f"day{i}.png" for i in range(12)),
        *(tmp_path / "query" / f"night_{i:03d}.png" for i in range(12)),
    )
    made = read_frames(tmp_path, tolerance_frames=2)
    assert made.database.paths[2] == "day2.png"
    assert made.positives is not None
    for query in range(12):
        assert made.positives.of(query).tolist() == [
            row for row in range(12) if abs(row - query) <= 2
        ]
    exact = read_frames(tmp_path, tolerance_frames=0)
    assert exact.positives is not None
    assert exact.positives.members.tolist() == list(range(12))
    with pytest.raises(BadOption):
        read_frames(tmp_path, tolerance_frames=-1)


def test_frames_by_name(tmp_path: Path) -> None:
    save(
        *(tmp_path / "s" / f"{i}.png" for i in range(0, 100, 10)),
        tmp_path / "w" / "90.png",
        tmp_path / "w" / "30.png",
    )
    made = read_frames(tmp_path, tolerance_frames=1, database_folder="s", queries_folder="w")
    assert made.queries.paths == ("30.png", "90.png")
    assert made.positives is not None
    assert [made.positives.of(i).tolist() for i in range(2)] == [[2, 3, 4], [8, 9]]
    save(tmp_path / "w" / "31.png")
    with pytest.raises(UnreadableTable, match=r"10 and 3 frames, and '31\.png' has no namesake"):
        read_frames(tmp_path, tolerance_frames=1, database_folder="s", queries_folder="w")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b/", "frame"]), st.integers(0, 10**20)), max_size=8)
)
def test_natural_order_is_by_text_then_number(pieces: list[tuple[str, int]]) -> None:
    names = [f"{text}{number}.png" for text, number in pieces]
    assert sorted(names, key=natural_key) == [
        f"{text}{number}.png" for text, number in sorted(pieces)
    ]


def test_natural_order_takes_any_name() -> None:
    names = ["10", "9", "a", "a²", "", "٣", "1a", "a1", "01"]
    assert sorted(names, key=natural_key)[:2] == ["", "01"]


def test_positive_rows(tmp_path: Path) -> None:
    path = tmp_path / "truth.npy"
    np.save(path, np.array([[3, 1, 1], [-1, -1, -1], [2, -1, 0]]))
    lists = read_positive_rows(path, num_database=4)
    assert [lists.of(i).tolist() for i in range(3)] == [[1, 3], [], [0, 2]]
    with pytest.raises(UnreadableTable, match="outside 0 to 2"):
        read_positive_rows(path, num_database=3)
    np.save(path, np.array([[0, [1, 2]], [1, [3]]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableTable, match="pickle, which could run any code"):
        read_positive_rows(path, num_database=4)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(UnreadableTable, match="integer matrix"):
        read_positive_rows(path, num_database=4)
    for content in (b"", b"text", path.read_bytes()[:90]):
        path.write_bytes(content)
        with pytest.raises(UnreadableTable):
            read_positive_rows(path, num_database=4)
    with pytest.raises(UnreadableTable):
        read_positive_rows(tmp_path / "missing.npy", num_database=4)


RANKED = (
    Ranked("q/b, 1.jpg", (Candidate("d/ü.jpg", 1, 0.1 + 0.2), Candidate('d/"x".jpg', 2, -1e-9))),
    Ranked("q/a.jpg", ()),
)


def test_predictions(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, RANKED)
    assert read_predictions(path) == RANKED
    assert path.read_text(encoding="utf-8").splitlines()[0] == "query,rank,photo,similarity"
    write_predictions(
        path, [Position("q.jpg", "unknown", candidates=(Candidate("d.jpg", 1, math.nan),))]
    )
    ((query, (candidate,)),) = read_predictions(path)
    assert (query, candidate.photo) == ("q.jpg", "d.jpg")
    assert math.isnan(candidate.similarity)
    write_predictions(path, [])
    assert read_predictions(path) == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("a,b\n", 1),
        ("query,rank,photo,similarity\nq,1,d\n", 2),
        ("query,rank,photo,similarity\nq,1,d,0.5\nq,x,d,0.5\n", 3),
        ("query,rank,photo,similarity\nq,0,d,0.5\n", 2),
        ("query,rank,photo,similarity\nq,1,,0.5\n", 2),
        ("query,rank,photo,similarity\nq,1,d,high\n", 2),
        ("query,rank,photo,similarity\nq,2,d,0.5\n", None),
        ("query,rank,photo,similarity\nq,1,d,0.5\nq,1,e,0.4\n", None),
    ],
)
def test_broken_predictions(tmp_path: Path, text: str, line: int | None) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UnreadableTable) as caught:
        read_predictions(path)
    assert caught.value.line == line


def test_hloc_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    write_hloc_pairs(
        path, [Ranked("q/1.jpg", (Candidate("d/2.jpg", 1, 0.5), Candidate("d/1.jpg", 2, 0.4)))]
    )
    assert path.read_text() == "q/1.jpg d/2.jpg\nq/1.jpg d/1.jpg\n"
    ((query, candidates),) = read_hloc_pairs(path)
    assert query == "q/1.jpg"
    assert [(candidate.photo, candidate.rank) for candidate in candidates] == [
        ("d/2.jpg", 1),
        ("d/1.jpg", 2),
    ]
    before = path.read_bytes()
    for spaced in ("q 1.jpg", "q\u00a01.jpg", ""):
        with pytest.raises(InputError, match="cannot hold"):
            write_hloc_pairs(path, [Ranked(spaced, (Candidate("d.jpg", 1, 0.5),))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("a b\nc\n")
    with pytest.raises(UnreadableTable) as caught:
        read_hloc_pairs(path)
    assert caught.value.line == 2


@pytest.mark.real
def test_real_sets(real_data: Path) -> None:
    stockholm = read_pairs(real_data / "stockholm-buildings" / "positives.csv")
    assert (len(stockholm.database), len(stockholm.queries)) == (75, 25)
    assert stockholm.positives is not None
    assert stockholm.positives.counts.tolist() == [3] * 25
    building = [path.split("_")[0] for path in stockholm.database.paths]
    for query, path in enumerate(stockholm.queries.paths):
        assert {building[row] for row in stockholm.positives.of(query)} == {path.split("_")[0]}
    gardens = read_pairs(real_data / "gardens-point-thumbs" / "gt.csv")
    walk = read_frames(real_data / "gardens-point-thumbs", tolerance_frames=0)
    assert gardens.positives is not None
    assert walk.positives is not None
    assert gardens.positives.members.tolist() == walk.positives.members.tolist() == list(range(200))
    nordland = read_frames(
        real_data / "nordland-64x32",
        tolerance_frames=1,
        database_folder="summer",
        queries_folder="winter",
    )
    assert (len(nordland.database), len(nordland.queries)) == (1788, 1788)
    assert nordland.positives is not None
    assert nordland.positives.of(1000).tolist() == [999, 1000, 1001]
    with pytest.raises(UnreadableTable, match="pickle"):
        read_positive_rows(real_data / "corridor" / "ground_truth_new.npy", num_database=111)
