"""Answers out to each format and back: what a format holds comes back as it was, and broken files
are refused by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import BadOption, UnreadableTable
from whence.localize.records import (
    COLUMNS,
    as_csv,
    as_geojson,
    as_gpx,
    as_xmp,
    position_of,
    read_answers,
    write_csv,
    write_geojson,
    write_places,
)
from whence.types import BestGuess, Candidate, GeoPoint, PairEvidence, Position

POINT = GeoPoint(55.7051234, 13.1881234)
FULL = Position(
    "=cmd|'é.jpg",
    "located",
    point=POINT,
    radius_m=12.5,
    heading_deg=271.25,
    confidence=0.9375,
    candidates=(
        Candidate(
            "db/a.jpg", 1, 0.75, point=POINT, num_inliers=41, confidence=0.9, retrieved_rank=3
        ),
        Candidate(
            "db/b.jpg", 2, 0.5, evidence=PairEvidence(0.0, num_inliers=None, is_stopped=True)
        ),
    ),
    seconds={"describe": 0.125},
    reason='because, "so"\nand so',
    is_verified=True,
    scorer="inliers",
)
GUESS = Position(
    "b.jpg",
    "unknown",
    candidates=FULL.candidates,
    best_guess=BestGuess("db/a.jpg", POINT, 9.0, 0.25),
    is_verified=True,
)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
numbers = st.floats(0, 1e6, allow_nan=False)
answers = st.builds(
    Position,
    texts,
    st.just("located"),
    point=st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
    radius_m=st.none() | numbers,
    heading_deg=st.none() | st.floats(0, 359.99),
    confidence=st.none() | st.floats(0, 1),
    reason=st.just("") | texts,
    is_verified=st.booleans(),
)


@pytest.mark.parametrize(
    "position",
    [FULL, GUESS, Position("c.jpg", "matched", candidates=(Candidate("x", 1, float("nan")),))],
)
def test_a_record_makes_the_answer_again(position: Position) -> None:
    again = position_of(json.loads(position.to_json()))
    assert again.to_dict() == position.to_dict()


@given(st.lists(answers, max_size=3))
def test_json_and_geojson_come_back(given_answers: list[Position]) -> None:
    for one in given_answers:
        assert position_of(one.to_dict()) == one
    features = as_geojson(given_answers)["features"]
    assert [feature["geometry"]["coordinates"] for feature in features] == [
        [p.point.lon, p.point.lat] for p in given_answers if p.point
    ]


def test_files_come_back(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        FULL.to_json() + "\n\n" + GUESS.to_json() + "\n", encoding="utf-8"
    )
    assert [one.to_dict() for one in read_answers(tmp_path / "a.jsonl")] == [
        FULL.to_dict(),
        GUESS.to_dict(),
    ]
    write_csv(tmp_path / "a.csv", [FULL, GUESS])
    first, second = read_answers(tmp_path / "a.csv")
    same = (
        "query",
        "status",
        "point",
        "radius_m",
        "heading_deg",
        "confidence",
        "is_verified",
        "scorer",
        "reason",
    )
    assert [getattr(first, name) for name in same] == [getattr(FULL, name) for name in same]
    assert (first.candidates[0].photo, first.candidates[0].similarity) == ("db/a.jpg", 0.75)
    assert (second.status, second.point) == ("unknown", None)
    write_geojson(tmp_path / "a.geojson", [FULL, GUESS])
    (found,) = read_answers(tmp_path / "a.geojson")
    assert [getattr(found, name) for name in same] == [getattr(FULL, name) for name in same]
    write_places(tmp_path / "a.gpx", [FULL, GUESS])
    (found,) = read_answers(tmp_path / "a.gpx")
    assert found.query == FULL.query
    assert (found.point.lat, found.point.lon) == pytest.approx((POINT.lat, POINT.lon), abs=1e-7)  # type: ignore[union-attr]
    (tmp_path / "a.jpg.xmp").write_bytes(as_xmp(FULL))
    (found,) = read_answers(tmp_path / "a.jpg.xmp")
    assert (found.query, found.radius_m, found.heading_deg) == ("a.jpg", 12.5, 271.25)
    assert "<name>" in as_gpx([FULL])


def test_a_table_holds_no_formula() -> None:
    rows = list(csv.reader(as_csv([FULL]).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1][0] == "'=cmd|'é.jpg"


@pytest.mark.parametrize(
    "record",
    [{}, {"query": "a", "status": "lost"}, {"query": "a", "status": "located", "candidates": [{}]}],
)
def test_what_is_no_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(BadOption):
        position_of(record)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", '{"query": "a", "status": "located", "position": {"lat": 91, "lon": 0}}'),
        ("a.json", "[" * 100_000),
        ("a.csv", "name\na\n"),
        ("a.csv", "query,status\na,lost\n"),
        ("a.geojson", "[]"),
        ("a.geojson", '{"features": [{"properties": {}}]}'),
        ("a.gpx", "<gpx>"),
        ("a.gpx", '<!DOCTYPE gpx [<!ENTITY a "b">]><gpx>&a;</gpx>'),
        ("a.xmp", "no packet"),
        ("a.txt", "a"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableTable, match=name):
        read_answers(tmp_path / name)


def test_no_sidecar_without_a_place() -> None:
    with pytest.raises(BadOption, match=r"b\.jpg"):
        as_xmp(GUESS)
