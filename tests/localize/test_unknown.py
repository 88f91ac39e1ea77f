"""A second look at photos that stay unknown: who is asked, about what, and that nothing known is
ever asked again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo, write_street
from whence.cards import ModelCard, Preprocessing
from whence.cli import run
from whence.data.scan import scan_photos
from whence.errors import BadOption, CalibrationMismatch, MissingWeights, UnknownName
from whence.evaluation.trials import trials_of_unknown
from whence.geo import distance_m
from whence.index.store import Store
from whence.localize import unknown
from whence.localize.calibration_files import (
    ANY_DESCRIPTOR,
    find_calibration,
    key_of,
    serves,
    store_calibration,
)
from whence.localize.localizer import RETRIEVE_ONLY, Localizer, LocateOptions
from whence.localize.missing import MissingOptions, place_missing
from whence.localize.rerank_options import RerankOptions
from whence.localize.unknown import automatic_state, second_options, shortlist
from whence.registry import SCORERS, register
from whence.settings import BuildOptions
from whence.types import Arrays, Calibration, Candidate, PairEvidence

Capture = pytest.CaptureFixture[str]
ASKED: list[int] = []
"""How many candidates each second look compared; photos of the database that are held against one
another do not count."""


class Thumbnails:
    """Compares photos by their coarse pixels: knows a blurred place that no keypoint does. A
    `PairScorer`."""

    key = "coarse/pixels"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        grey = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 7), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (32, 20), interpolation=cv2.INTER_AREA).astype(np.float32)
        return {"small": (small - small.mean()) / (small.std() + 1e-6)}

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        given = list(candidates)
        ASKED.extend([len(given)] * (len(given) > 1))
        for one in given:
            if one is None:
                yield None
                continue
            alike = max(self._alike(query["small"], one["small"], shift) for shift in range(4))
            num = round(100 * max(alike, 0.0) ** 4)
            yield PairEvidence(float(num), num + 10, num, 0.6, 200, surprise=50.0)

    def _alike(self, first: np.ndarray, second: np.ndarray, shift: int) -> float:
        return float((first[:, : 32 - shift] * second[:, shift:]).mean())


CARD = ModelCard(
    "thumbnails",
    "coarse pixels",
    0,
    Preprocessing(long_side_px=320),
    "MIT",
    similarity="x",
    counts_inliers=True,
)


@pytest.fixture(scope="module", autouse=True)
def thumbnails() -> Iterator[None]:
    """The scorer of these tests is one of these tests alone."""
    register("scorer", "thumbnails", Thumbnails, card=CARD)
    yield
    del SCORERS["thumbnails"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, thumbnails: None) -> Path:
    """A database of 24 places, each photographed twice, that holds a calibration of the tests'
    scorer for any descriptor."""
    root = tmp_path_factory.mktemp("town")
    for number, shift in ((0, 0), (1, 12)):
        write_street(root / "photos", num_places=24, shift=shift, run=number)
    path = root / "town.whence"
    Localizer.build(
        root / "photos", path=path, options=BuildOptions(model="rootsift-vlad", keep_local=True)
    ).close()
    with Localizer.open(path) as localizer:
        key = key_of(ANY_DESCRIPTOR, localizer.prepared(RerankOptions("thumbnails")))
    weights = (-14.0, 3.5, 0.0, 3.0, 0.0)
    with Store.open(path, writable=True) as store:
        store_calibration(
            store,
            Calibration(
                key, weights, weights, radius_factor=2.0, min_confidence=0.9, source="by hand"
            ),
        )
    return root


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def blurred(place: int) -> np.ndarray:
    """A photo out of focus: its keypoints are no one's, its coarse pixels still are the place's."""
    return cv2.GaussianBlur(view_of(draw_place(place), shift=6, seed=5), (0, 0), 5)


def blurred_file(folder: Path, place: int) -> str:
    return str(write_photo(folder / f"blurred{place}.jpg", blurred(place)))


ONCE = LocateOptions(when_unknown="none")


def second_look() -> LocateOptions:
    return LocateOptions(when_unknown="thumbnails:6")


def test_an_unknown_photo_is_located_by_the_second_look(town: Path) -> None:
    with Localizer.open(town / "town.whence") as localizer:
        once = localizer.locate(blurred(8), options=ONCE)
        assert (once.status, once.scorer, "again" in once.seconds) == ("unknown", "inliers", False)
        assert ASKED == []
        found = localizer.locate(blurred(8), options=second_look())
        truth = localizer.photos.record(
            next(i for i, path in enumerate(localizer.photos.paths) if "0008r0" in path)
        ).point
    assert ASKED == [6]
    assert (found.status, found.scorer, found.is_verified) == ("located", "thumbnails", True)
    assert "thumbnails" in found.reason
    assert "inliers" in found.reason
    assert found.seconds["again"] > 0
    assert found.point is not None
    assert found.radius_m is not None
    assert truth is not None
    assert distance_m(found.point, truth) <= found.radius_m
    assert found.confidence is not None
    assert found.confidence >= 0.9
    assert found.best_guess is None
    assert "0008r" in found.candidates[0].photo
    assert [one.rank for one in found.candidates] == list(range(1, 21))
    assert {one.row: one.retrieved_rank for one in found.candidates} == {
        one.row: one.retrieved_rank for one in once.candidates
    }
    # Counts of two scorers in one list would be compared with each other.
    assert all(
        one.evidence is None and one.num_inliers is None and one.confidence is None
        for one in found.candidates[6:]
    )
    assert found.to_dict()["scorer"] == "thumbnails"


def test_what_stays_unknown_is_as_it_was(town: Path) -> None:
    strange = cv2.GaussianBlur(view_of(draw_place(999), shift=0, seed=5), (0, 0), 5)
    with Localizer.open(town / "town.whence") as localizer:
        once, again = (
            localizer.locate(strange, options=ONCE),
            localizer.locate(strange, options=second_look()),
        )
    assert ASKED == [6]
    assert (once.status, again.status, again.scorer) == ("unknown", "unknown", "inliers")
    assert again.reason.startswith(once.reason)
    assert "thumbnails over 6" in again.reason
    assert (again.candidates, again.best_guess, again.confidence) == (
        once.candidates,
        once.best_guess,
        once.confidence,
    )


def test_what_is_known_is_never_asked_again(town: Path) -> None:
    sharp = view_of(draw_place(8), shift=25, seed=5)
    own = next((town / "photos").iterdir())
    with Localizer.open(town / "town.whence") as localizer:
        for query in (sharp, own):
            once, again = (
                localizer.locate(query, options=ONCE),
                localizer.locate(query, options=second_look()),
            )
            assert once.status == "located"
            assert replace(again, seconds={}) == replace(once, seconds={})
            assert again.scorer == "inliers"
        assert localizer.locate(blurred(8), options=RETRIEVE_ONLY).scorer == ""
        plain = LocateOptions(is_verified=False)
        assert localizer.locate(blurred(8), options=plain).status == "located"
    assert ASKED == []


def test_many_photos_as_json_and_as_a_table(town: Path, tmp_path: Path, capsys: Capture) -> None:
    photos = [blurred_file(tmp_path, place) for place in (3, 8, 999)]
    photos.append(
        str(write_photo(tmp_path / "sharp.jpg", view_of(draw_place(5), shift=25, seed=5)))
    )
    base = [
        "locate",
        *photos,
        "--db",
        str(town / "town.whence"),
        "--quiet",
        "--csv",
        str(tmp_path / "a.csv"),
    ]
    assert (
        run(
            [
                *base,
                "--set",
                "when_unknown=thumbnails",
                "--json",
                "--report",
                str(tmp_path / "a.html"),
            ]
        )
        == 0
    )
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["status"], one["scorer"]) for one in found] == [
        ("located", "thumbnails"),
        ("located", "thumbnails"),
        ("unknown", "inliers"),
        ("located", "inliers"),
    ]
    assert ["again" in one["seconds"] for one in found] == [True, True, True, False]
    assert ASKED == [unknown.NUM_AGAIN] * 3
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        assert [row["scorer"] for row in csv.DictReader(file)] == [one["scorer"] for one in found]
    assert "asked again with thumbnails" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert run([*base, "--set", "when_unknown=none", "--json"]) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == [
        "unknown"
    ] * 3 + ["located"]


def test_missing_goes_the_same_way(town: Path, tmp_path: Path) -> None:
    blurred_file(tmp_path / "trip", 8)
    for options, placed_by in ((ONCE, "none"), (second_look(), "match")):
        report = place_missing(
            tmp_path / "trip", database=town / "town.whence", options=MissingOptions(locate=options)
        )
        (proposal,) = report.proposals
        assert (proposal.placed_by, proposal.is_verified) == (placed_by, placed_by == "match")
    assert "thumbnails" in proposal.reason


@pytest.mark.parametrize(
    ("when_unknown", "error"),
    [
        ("thumbnail", UnknownName),
        ("thumbnails:x", BadOption),
        ("thumbnails:0", BadOption),
        ("thumbnails:-3", BadOption),
        ("", UnknownName),
        ("rapid:3", CalibrationMismatch),
        ("ransac", CalibrationMismatch),
        ("inliers:5,thumbnails:2", CalibrationMismatch),
    ],
)
def test_what_cannot_be_asked_fails_before_the_first_photo(
    town: Path, when_unknown: str, error: type[Exception]
) -> None:
    with Localizer.open(town / "town.whence") as localizer, pytest.raises(error):
        localizer.judge(LocateOptions(when_unknown=when_unknown))


def test_it_goes_with_verified_answers_alone(town: Path, tmp_path: Path, capsys: Capture) -> None:
    photo = blurred_file(tmp_path, 8)
    assert (
        run(
            [
                "locate",
                photo,
                "--db",
                str(town / "town.whence"),
                "--no-verify",
                "--set",
                "when_unknown=thumbnails",
            ]
        )
        == 1
    )
    assert "verification" in capsys.readouterr().err
    for is_verified, rerank in ((False, RerankOptions()), (False, None)):
        with pytest.raises(BadOption):
            LocateOptions(rerank=rerank, is_verified=is_verified, when_unknown="thumbnails")


def test_a_photo_that_is_gone_when_it_is_asked_again(town: Path, tmp_path: Path) -> None:
    photo = Path(blurred_file(tmp_path, 8))
    with Localizer.open(town / "town.whence") as localizer:
        judge = localizer.judge(second_look())
        described = next(judge.describe([photo]))
        assert not isinstance(described, Exception)
        photo.unlink()
        answer = judge.answer(str(photo), described, k=20, around=None, seconds={}, source=photo)
    assert answer.status == "unknown"
    assert "not asked again" in answer.reason


@pytest.fixture
def automatic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The tests' scorer as the one that is asked by itself; its packages and weights there or
    not."""

    def state(*, has_packages: bool = True, has_weights: bool = True) -> None:
        monkeypatch.setattr(unknown, "AUTO_SCORER", "thumbnails")
        monkeypatch.setattr(
            unknown, "_PACKAGES", ("json",) if has_packages else ("json", "no_such_package")
        )
        monkeypatch.setattr(unknown, "parts_of_matcher", lambda name: (CARD,))
        monkeypatch.setattr(
            unknown, "find_weights", lambda card: Path("x.pth") if has_weights else None
        )

    return state


def test_by_itself_it_asks_where_all_is_there(town: Path, automatic: Callable[..., None]) -> None:
    with Localizer.open(town / "town.whence") as localizer:
        for has_packages, has_weights, state, status in (
            (True, True, "ready", "located"),
            (True, False, "no weights", "unknown"),
            (False, True, "no extra", "unknown"),
        ):
            automatic(has_packages=has_packages, has_weights=has_weights)
            assert automatic_state() == state
            assert localizer.locate(blurred(8)).status == status
            assert second_options("none", RerankOptions()) is None
    automatic()
    assert second_options("auto", RerankOptions("thumbnails")) is None, (
        "the same evidence is not asked for twice"
    )
    assert second_options("auto", RerankOptions()) == RerankOptions("thumbnails", unknown.NUM_AGAIN)
    for bounded in (RerankOptions(max_seconds=0.5), RerankOptions("rapid:9:0.5s,inliers:3")):
        assert second_options("auto", bounded) is None
        assert second_options("thumbnails:2", bounded) == RerankOptions("thumbnails", 2)


def test_by_itself_it_opens_nothing_that_is_not_needed(
    town: Path, automatic: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic()
    monkeypatch.setattr(Thumbnails, "__init__", lambda self: pytest.fail("opened"))
    with Localizer.open(town / "town.whence") as localizer:
        assert localizer.locate(view_of(draw_place(8), shift=25, seed=5)).status == "located"


def test_by_itself_it_fails_nobody(
    town: Path, automatic: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic()

    def fail(self: Thumbnails) -> None:
        raise MissingWeights("they were removed just now")

    monkeypatch.setattr(Thumbnails, "__init__", fail)
    with Localizer.open(town / "town.whence") as localizer:
        found = localizer.locate(blurred(8))
        assert found.status == "unknown"
        assert "they were removed just now" in found.reason
        with pytest.raises(MissingWeights):
            localizer.judge(second_look())


def test_a_note_where_only_weights_are_missing(
    town: Path, tmp_path: Path, automatic: Callable[..., None], capsys: Capture
) -> None:
    photos = [blurred_file(tmp_path, place) for place in (7, 8)]
    command = ["locate", *photos, "--db", str(town / "town.whence"), "--quiet"]
    automatic(has_weights=False)
    assert run(command) == 0
    assert capsys.readouterr().err.count("whence models --fetch") == 1
    for flags, has_packages in (
        (["--set", "when_unknown=none"], True),
        ([], False),
        (["--no-verify"], True),
        (["--json"], True),
    ):
        automatic(has_packages=has_packages, has_weights=False)
        assert run([*command, *flags]) == 0
        assert "--fetch" not in capsys.readouterr().err


def test_a_shortlist_takes_evidence_and_retrieval_in_turn() -> None:
    found = PairEvidence(9.0, 20, 9)
    # In the order of evidence; retrieval had them as d, b, a, c.
    candidates = [
        Candidate(
            name,
            rank,
            0.5,
            row=row,
            num_inliers=9,
            confidence=0.2,
            retrieved_rank=retrieved,
            evidence=found,
        )
        for rank, (name, row, retrieved) in enumerate(
            (("a", 0, 3), ("b", 1, 2), ("c", 2, 4), ("d", 3, 1)), start=1
        )
    ]
    chosen = shortlist(candidates, 3)
    assert [one.photo for one in chosen] == ["a", "d", "b"]
    assert [one.rank for one in chosen] == [1, 2, 3]
    assert all(
        (one.evidence, one.num_inliers, one.confidence) == (None, None, None) for one in chosen
    )
    assert [one.photo for one in shortlist(candidates, 9)] == ["a", "d", "b", "c"]
    assert shortlist([], 3) == ()


def test_a_calibration_for_any_descriptor(town: Path) -> None:
    with Localizer.open(town / "town.whence") as localizer:
        key = key_of("some.v1", localizer.prepared(RerankOptions("thumbnails")))
        found = find_calibration(key, store=localizer.store)
        assert found.source == "by hand"
        for other in (
            replace(key, scorer="inliers.v1"),
            replace(key, image_side_px=100),
            replace(key, settings="other"),
        ):
            assert not serves(found, other)
            with pytest.raises(CalibrationMismatch):
                find_calibration(other, store=localizer.store)
    named = replace(found, key=replace(found.key, descriptor="another.v1"))
    assert not serves(named, key)


def test_a_database_keeps_a_calibration_for_each_scorer(town: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(town / "town.whence", tmp_path / "copy.whence")
    with Localizer.open(copy) as localizer:
        keys = [
            key_of("rootsift-vlad.v1", localizer.prepared(RerankOptions(name)))
            for name in ("inliers", "thumbnails")
        ]
        packaged, by_hand = (find_calibration(key, store=localizer.store) for key in keys)
    assert packaged.source.startswith("rendered")
    with Store.open(copy, writable=True) as store:
        store_calibration(store, replace(packaged, source="own"))
    with Store.open(copy) as store:
        assert [find_calibration(key, store=store).source for key in keys] == ["own", "by hand"]
    assert by_hand.source == "by hand"


def test_trials_are_of_what_stays_unknown(town: Path, tmp_path: Path) -> None:
    names = {
        path.name.split("@")[7][:4]: path.name
        for path in (town / "photos").iterdir()
        if "r0" in path.name
    }
    for place, image in (
        (8, blurred(8)),
        (9, view_of(draw_place(9), shift=25, seed=5)),
        (10, blurred(999)),
    ):
        write_photo(tmp_path / names[f"{place:04d}"], image)
    with Localizer.open(town / "town.whence") as localizer:
        trials = trials_of_unknown(
            localizer,
            scan_photos(tmp_path, show_progress=False),
            options=RerankOptions("thumbnails", 6),
            show_progress=False,
        )
    assert ASKED == [6, 6]
    # The stranger's best candidate may lie nearby by chance; evidence for it there is none.
    assert trials.has_evidence.tolist() == [True, False]
    assert trials.gaps_m[0] < 10
    assert trials.is_covered.all()
