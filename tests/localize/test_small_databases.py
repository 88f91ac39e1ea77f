"""Small databases, albums of one place, bursts: what is a rival, and that they answer. What was not
compared is not known."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import draw_place, view_of, write_photo
from whence.cli import run
from whence.data.names import format_name
from whence.evaluation.page import page_of_positions
from whence.geo import move
from whence.localize.calibration_files import packaged_calibrations
from whence.localize.judge import Judge
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.rerank_options import RerankOptions
from whence.localize.verify import (
    SAME_FROM_AFAR_SHARE,
    SAME_SCENE_INLIERS,
    Agreements,
    agreements_of,
    confidence_of,
    rivals_of,
    verify,
)
from whence.settings import BuildOptions
from whence.types import Candidate, GeoPoint, PairEvidence

HERE = GeoPoint(59.32, 18.07)
ROOTSIFT = next(one for one in packaged_calibrations() if one.key.descriptor == "rootsift-vlad.v1")


def candidate(
    inliers: int | None,
    *,
    matches: int | None = None,
    east_m: float | None = None,
    coverage: float = 0.5,
) -> Candidate:
    point = None if east_m is None else move(HERE, heading_deg=90.0, distance_m=east_m)
    found = 0 if inliers is None else inliers
    evidence = PairEvidence(
        float(found),
        found + 30 if matches is None else matches,
        inliers,
        coverage,
        900,
        inliers is None,
        99.0,
    )
    return Candidate("x.jpg", 1, 0.5, point=point, num_inliers=inliers, evidence=evidence)


def agreeing(*counts: float, keypoints: int = 900) -> Agreements:
    found = np.array([np.inf, *counts])
    return Agreements(found, found / keypoints)


@given(
    st.integers(8, 400),
    st.integers(0, 200),
    st.floats(0, 1),
    st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=22),
    st.integers(0, 300),
    st.floats(0, 1),
    st.booleans(),
)
def test_more_inliers_and_wider_coverage_never_lower_the_probability(
    inliers: int,
    outliers: int,
    coverage: float,
    others: list[tuple[int, bool]],
    more: int,
    wider: float,
    has_point: bool,
) -> None:
    rest = [
        candidate(count, east_m=(900.0 if is_far else 5.0) if has_point else None)
        for count, is_far in others
    ]
    for calibration in packaged_calibrations():
        few = candidate(
            inliers,
            matches=inliers + outliers,
            coverage=coverage,
            east_m=0.0 if has_point else None,
        )
        many = candidate(
            inliers + more,
            matches=inliers + outliers + more,
            coverage=min(coverage + wider, 1),
            east_m=0.0 if has_point else None,
        )
        assert confidence_of([many, *rest], 0, calibration) >= confidence_of(
            [few, *rest], 0, calibration
        )
        # More inliers of the same matches, too.
        exact = candidate(
            inliers + min(more, outliers),
            matches=inliers + outliers,
            coverage=coverage,
            east_m=few.point and 0.0,
        )
        assert confidence_of([exact, *rest], 0, calibration) >= confidence_of(
            [few, *rest], 0, calibration
        )


@given(st.lists(st.integers(0, 300), min_size=1, max_size=19), st.data())
def test_a_database_that_lacks_some_photos_is_never_less_sure(
    counts: list[int], data: st.DataObject
) -> None:
    rest = [candidate(count) for count in counts]
    kept = data.draw(st.lists(st.sampled_from(rest), max_size=len(rest), unique_by=id))
    kept = [one for one in rest if any(one is other for other in kept)]
    few, many = (confidence_of([candidate(60), *others], 0, ROOTSIFT) for others in (kept, rest))
    assert few >= many


def test_photos_of_one_scene_are_no_rivals() -> None:
    candidates = [candidate(120), candidate(90), candidate(80), candidate(40)]
    assert rivals_of(candidates, 0).tolist() == [False, True, True, True]
    scene = agreeing(300, SAME_SCENE_INLIERS, SAME_SCENE_INLIERS - 1)
    assert rivals_of(candidates, 0, scene).tolist() == [False, False, False, True]
    # The second is of the scene of the first, so the first is no rival of it either.
    assert rivals_of(candidates, 1, scene).tolist() == [False, False, False, True]
    assert rivals_of(candidates, 3, scene).tolist() == [True, True, True, False]


def test_photos_said_to_be_elsewhere_are_rivals_unless_they_are_nearly_the_same() -> None:
    candidates = [
        candidate(120, east_m=0.0),
        candidate(90, east_m=300.0),
        candidate(80, east_m=20.0),
        candidate(70),
    ]
    assert rivals_of(candidates, 0).tolist() == [False, True, False, False]
    least = SAME_FROM_AFAR_SHARE * 900
    assert rivals_of(candidates, 0, agreeing(least - 1, 0, 0)).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert rivals_of(candidates, 0, agreeing(least, 0, 0)).tolist() == [False, False, False, False]


def test_two_photos_of_a_building_do_not_speak_against_each_other() -> None:
    """Three photos of one building, asked with one of them: the second photo matches it nearly as
    well."""
    candidates = [
        candidate(1724, coverage=1.0),
        candidate(671, coverage=0.9),
        candidate(320, coverage=0.8),
    ]
    judged, verdict = verify(candidates, ROOTSIFT, agreements=agreeing(671, 320))
    assert verdict.is_accepted
    assert all((one.confidence or 0) > 0.99 for one in judged)


def test_agreements_are_looked_for_only_where_there_is_evidence() -> None:
    asked: list[tuple[int, list[int]]] = []

    class Prepared:
        def agreements(self, row: int, rows: Sequence[int]) -> list[PairEvidence]:
            asked.append((row, list(rows)))
            return [PairEvidence(50.0, 60, 50, 0.5, 500) for _ in rows]

    candidates = [
        replace(candidate(count), row=row) for row, count in enumerate((100, 7, 30, None, 12))
    ]
    found = agreements_of(candidates, Prepared())  # type: ignore[arg-type]
    assert asked == [(0, [2, 4])]
    assert found.num_inliers.tolist() == [np.inf, 0, 50, 0, 50]
    assert found.shares.tolist() == [np.inf, 0, 0.1, 0, 0.1]
    nothing = agreements_of([candidate(3), candidate(3)], Prepared())  # type: ignore[arg-type]
    assert len(asked) == 1
    assert nothing.num_inliers.tolist() == [np.inf, 0]
    assert len(agreements_of([], None).num_inliers) == 0


def test_inliers_that_chance_gives_are_no_evidence() -> None:
    lucky = candidate(12)
    assert lucky.evidence is not None
    lucky = replace(lucky, evidence=replace(lucky.evidence, surprise=2.0))
    assert confidence_of([lucky], 0, ROOTSIFT) == 0
    assert confidence_of([candidate(12)], 0, ROOTSIFT) > 0.1


def write_album(
    folder: Path, places: Sequence[int], *, num_views: int, has_points: bool, first_view: int = 0
) -> list[Path]:
    """Photos of drawn places, some views of each a few pixels apart; places are 500 m apart."""
    files = []
    for place in places:
        for view in range(first_view, first_view + num_views):
            point = move(HERE, heading_deg=90.0, distance_m=500.0 * place + 2.0 * view)
            name = (
                format_name(point=point, pano_id=f"p{place}v{view}")
                if has_points
                else f"p{place}v{view}.jpg"
            )
            files.append(
                write_photo(folder / name, view_of(draw_place(place), shift=7 * view, seed=view))
            )
    return files


@pytest.mark.parametrize("has_points", [True, False])
@pytest.mark.parametrize(
    ("places", "num_views"),
    [
        ((1,), 1),
        ((1,), 2),
        ((1,), 3),
        ((1,), 10),
        ((1, 2), 1),
        ((1, 2, 3), 1),
        (tuple(range(1, 11)), 1),
    ],
)
def test_small_databases_answer(
    places: tuple[int, ...], num_views: int, has_points: bool, tmp_path: Path
) -> None:
    files = write_album(tmp_path / "photos", places, num_views=num_views, has_points=has_points)
    answered = "located" if has_points else "matched"
    with Localizer.build(
        tmp_path / "photos", path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        own = [localizer.locate(file) for file in files]
        assert [one.status for one in own] == [answered] * len(files)
        assert all(one.confidence == 1 for one in own), "the very same bytes"
        assert [Path(one.candidates[0].photo).name for one in own] == [file.name for file in files]
        pixels = localizer.locate(view_of(draw_place(1), shift=0, seed=0))
        assert pixels.status == answered
        other = localizer.locate(view_of(draw_place(1), shift=11, seed=77))
        assert other.status == answered
        assert "p1v" in other.candidates[0].photo
        for stranger in range(40, 46):
            assert (
                localizer.locate(view_of(draw_place(stranger), shift=3, seed=2)).status == "unknown"
            )


def test_a_blank_photo_is_known_by_its_bytes_only(tmp_path: Path) -> None:
    blank = np.full((120, 160, 3), 90, np.uint8)
    file = write_photo(tmp_path / "photos" / "wall.jpg", blank)
    write_album(tmp_path / "photos", (1, 2), num_views=1, has_points=False)
    with Localizer.build(tmp_path / "photos", path=tmp_path / "a.whence") as localizer:
        same = localizer.locate(file)
        assert (same.status, same.confidence, same.candidates[0].photo.endswith("wall.jpg")) == (
            "matched",
            1.0,
            True,
        )
        assert [one.rank for one in same.candidates] == [1, 2, 3]
        assert localizer.locate(file.read_bytes()).status == "matched"
        assert localizer.locate(blank).status == "unknown"


def test_a_second_match_with_coordinates_says_where_the_first_is(tmp_path: Path) -> None:
    write_album(tmp_path / "photos", (1,), num_views=1, has_points=False)
    (placed,) = write_album(tmp_path / "photos", (1,), num_views=1, has_points=True, first_view=4)
    write_album(tmp_path / "photos", (2, 3), num_views=2, has_points=True)
    with Localizer.build(
        tmp_path / "photos", path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        found = localizer.locate(view_of(draw_place(1), shift=0, seed=9))
        assert found.candidates[0].point is None
        assert found.status == "located"
        assert found.point == next(
            photo.point for photo in localizer.photos if photo.path.endswith(placed.name)
        )
        assert found.radius_m is not None
        assert found.confidence == next(
            one.confidence for one in found.candidates if one.point is not None
        )
        # Where the one with coordinates is not sure, the place is that of the photo.
        judge = localizer.judge()
        assert judge.calibration is not None
        strict = replace(judge, calibration=replace(judge.calibration, min_confidence=1 - 1e-12))
        assert isinstance(strict, Judge)
        assert strict.judge("x", found.candidates, seconds={}).status == "matched"


def test_what_was_passed_over_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_album(tmp_path / "photos", (1,), num_views=1, has_points=True)
    # A collage shares a part with the query: enough matches to be compared, too few to win.
    half = view_of(draw_place(1), shift=0, seed=3).copy()
    half[:, 60:] = view_of(draw_place(2), shift=0, seed=3)[:, 60:]
    write_photo(
        tmp_path
        / "photos"
        / format_name(point=move(HERE, heading_deg=0.0, distance_m=900.0), pano_id="half"),
        half,
    )
    query = write_photo(tmp_path / "q.jpg", view_of(draw_place(1), shift=0, seed=5))
    database = str(tmp_path / "a.whence")
    with Localizer.build(
        tmp_path / "photos", path=database, options=BuildOptions(keep_local=True)
    ) as localizer:
        options = LocateOptions(rerank=RerankOptions(scorer_options={"stop_share": 0.9}))
        found = localizer.locate(query, options=replace(options, is_verified=False)).candidates
        assert [one.is_passed_over for one in found] == [False, True]
        over = found[1]
        assert (over.num_inliers, over.confidence) == (None, None)
        assert over.evidence is not None
        assert over.evidence.num_matches >= 8
        judged, _ = verify(found, ROOTSIFT)
        assert (judged[1].confidence, judged[0].confidence is None) == (None, False)
        page = page_of_positions(
            [localizer.locate(query, options=options)], database=localizer.photos
        )
        assert page
    flags = ["--set", "scorer_options.stop_share=0.9", "--no-verify", "--rerank", "inliers"]
    assert run(["locate", str(query), "--db", database, "--json", *flags]) == 0
    listed = json.loads(capsys.readouterr().out)["candidates"]
    assert [
        (one["num_inliers"] is None, one["confidence"], one["is_passed_over"]) for one in listed
    ] == [
        (False, None, False),
        (True, None, True),
    ]
    assert run(["locate", str(query), "--db", database, *flags]) == 0
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    rows = [cells for cells in lines if cells and cells[0] in ("1", "2")]
    assert rows[0][2].isdecimal()
    assert rows[1][2] == "-"


def test_seconds_of_a_batch_are_shared(tmp_path: Path) -> None:
    files = write_album(tmp_path / "photos", (1, 2, 3, 4, 5, 6), num_views=1, has_points=True)
    with Localizer.build(
        tmp_path / "photos", path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        assert localizer.model.batch_size >= len(files)
        spent = [
            one.seconds["describe"] for one in localizer.locate_many(files, show_progress=False)
        ]
    assert len(set(spent)) == 1
    assert spent[0] > 0


def test_threads_that_ask_one_localizer_get_the_same_answers(tmp_path: Path) -> None:
    write_album(tmp_path / "photos", (1, 2, 3), num_views=2, has_points=True)
    queries = [
        view_of(draw_place(place), shift=5 + place, seed=place) for place in (1, 2, 3, 4)
    ] * 4
    # Nothing is kept in the database, so that threads prepare and remember its photos at the same
    # time.
    with (
        Localizer.build(tmp_path / "photos", path=tmp_path / "a.whence") as localizer,
        ThreadPoolExecutor(8) as threads,
    ):
        together = list(threads.map(localizer.locate, queries))
        alone = [localizer.locate(query) for query in queries]
    assert [(one.status, one.point, one.confidence) for one in together] == [
        (one.status, one.point, one.confidence) for one in alone
    ]


@pytest.mark.real
@pytest.mark.slow
def test_albums_of_real_buildings(real_data: Path, tmp_path: Path) -> None:
    """Albums of three photos of one Stockholm building, no coordinates: own pixels and the other
    photo answered, others unknown."""
    root = real_data / "stockholm-buildings"
    with (root / "positives.csv").open(encoding="utf-8", newline="") as file:
        places = {row["query"]: row["positives"].split(";") for row in csv.DictReader(file)}
    names = sorted(places)[:12]
    own = other = strangers = 0
    for number, name in enumerate(names):
        for photo in places[name]:
            target = tmp_path / f"{number}" / Path(photo).name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((root / photo).read_bytes())
        path = tmp_path / f"{number}.whence"
        with Localizer.build(
            tmp_path / f"{number}", path=path, options=BuildOptions(keep_local=True)
        ) as localizer:
            image = localizer.model.read(root / places[name][0])
            own += localizer.locate(image).status == "matched"
            other += localizer.locate(root / name).status == "matched"
            stranger = names[(number + 5) % len(names)]
            strangers += localizer.locate(root / stranger).status == "unknown"
    assert (own, strangers) == (12, 12)
    assert other >= 10
