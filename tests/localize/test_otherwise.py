"""What orders candidates that matches say nothing of: asked only then, only the first few, and
nothing is verified by it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import write_photo
from stated_evidence import names, stated
from whence.cards import ModelCard, Preprocessing
from whence.cli import run
from whence.data.images import load_image
from whence.errors import BadOption, MissingExtra, UnknownName
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.otherwise import Otherwise, otherwise_of
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.unknown import NONE
from whence.registry import SCORERS, register
from whence.types import Arrays, PairEvidence

Capture = pytest.CaptureFixture[str]


class Alike:
    """Scores candidates by how near their stated values are to the query's. A `PairScorer`."""

    key = "alike/values"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"value": np.float64(image.mean())}

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        for one in candidates:
            yield (
                None
                if one is None
                else PairEvidence(
                    1000 - abs(float(one["value"] - query["value"])), num_inliers=None
                )
            )


def brightness(level: int) -> np.ndarray:
    return np.full((40, 60, 3), level, np.uint8)


def asking(levels: list[int], num: int, *, opened: list[RerankOptions]) -> Otherwise:
    """What orders stated candidates by their brightness."""

    def open_prepared(options: RerankOptions) -> PreparedPhotos:
        opened.append(options)
        prepared = stated([0.0] * len(levels))[1]
        prepared.scorer = Alike()
        prepared.of_row = lambda row: {"value": np.float64(levels[row])}  # type: ignore[method-assign]
        return prepared

    return Otherwise(RerankOptions("geowarp", num), open_prepared)


def test_the_first_few_are_ordered_where_matches_say_nothing() -> None:
    candidates, prepared = stated([0.0, 0.0, 0.0, 0.0])
    found, opened = rerank(candidates, query={}, material=prepared, options=RerankOptions()), []
    otherwise = asking([10, 90, 200, 100], 3, opened=opened)
    done = otherwise.order(found, brightness(100))
    assert names(done.candidates) == ["1.jpg", "0.jpg", "2.jpg", "3.jpg"]
    assert [one.rank for one in done.candidates] == [1, 2, 3, 4]
    assert [one.retrieved_rank for one in done.candidates] == [2, 1, 3, 4]
    assert [one.num_inliers for one in done.candidates] == [0, 0, 0, 0]
    assert "geowarp says" in done.reason
    otherwise.order(found, brightness(0))
    assert len(opened) == 1


def test_it_is_not_asked_where_matches_speak(tmp_path: Path) -> None:
    opened: list[RerankOptions] = []
    otherwise = asking([10, 90, 200], 3, opened=opened)
    candidates, prepared = stated([0.0, 12.0, 0.0])
    found = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert otherwise.order(found, brightness(10)) is found
    assert (
        otherwise.order(
            rerank([], query={}, material=prepared, options=RerankOptions()), brightness(10)
        ).candidates
        == ()
    )
    lonely = rerank(candidates[:1], query={}, material=prepared, options=RerankOptions())
    assert otherwise.order(lonely, brightness(10)) is lonely
    assert not opened


def test_few_inliers_that_chance_gives_do_not_count_as_speaking() -> None:
    candidates, prepared = stated([9.0, 0.0])
    found = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert found.candidates[0].evidence is not None
    by_chance = replace(
        found.candidates[0], evidence=replace(found.candidates[0].evidence, surprise=1.0)
    )
    done = asking([10, 200], 2, opened=[]).order(
        replace(found, candidates=(by_chance, *found.candidates[1:])), brightness(190)
    )
    assert names(done.candidates) == ["1.jpg", "0.jpg"]


def test_what_cannot_be_opened_or_read_changes_nothing(tmp_path: Path) -> None:
    def fails(options: RerankOptions) -> PreparedPhotos:
        raise MissingExtra(options.scorer, "torch")

    candidates, prepared = stated([0.0, 0.0])
    found = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert Otherwise(RerankOptions("geowarp", 5), fails).order(found, brightness(10)) is found
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    assert asking([10, 200], 2, opened=[]).order(found, broken) is found


@pytest.mark.parametrize("text", ["geowarp", "geowarp:", "geowarp:x", "geowarp:-1", ""])
def test_words_that_name_no_scorer_with_a_number(text: str) -> None:
    with pytest.raises(BadOption):
        RerankOptions(otherwise=text)


def test_what_is_asked_for_by_name_fails_at_once() -> None:
    def fails(options: RerankOptions) -> PreparedPhotos:
        raise MissingExtra(options.scorer, "torch")

    assert otherwise_of(RerankOptions(), fails) is not None
    with pytest.raises(MissingExtra, match="rapid"):
        otherwise_of(RerankOptions(otherwise="rapid:5"), fails)


def test_when_it_is_not_asked_at_all() -> None:
    def never(options: RerankOptions) -> PreparedPhotos:
        raise AssertionError

    assert otherwise_of(RerankOptions(), never) is not None
    assert otherwise_of(RerankOptions(otherwise=NONE), never) is None
    assert otherwise_of(RerankOptions(max_seconds=1.0), never) is None
    assert otherwise_of(RerankOptions("geowarp"), never) is None
    with pytest.raises(UnknownName):
        RerankOptions(otherwise="geowrap:5")


CARD = ModelCard("alike", "brightness", 0, Preprocessing(), "MIT", similarity="x")


@pytest.fixture
def greys(tmp_path: Path) -> Iterator[Path]:
    """A scorer of brightness, and photos of plain walls, which nothing matches, of six greys."""
    register("scorer", "alike", Alike, card=CARD)
    for level in range(30, 200, 30):
        write_photo(tmp_path / "walls" / f"{level}.jpg", brightness(level))
    write_photo(tmp_path / "queries" / "asked.jpg", brightness(123))
    yield tmp_path
    del SCORERS["alike"]


def test_from_end_to_end(greys: Path, capsys: Capture) -> None:
    database = str(greys / "walls.whence")
    assert run(["index", str(greys / "walls"), "--db", database, "-q"]) == 0
    ask = ["locate", str(greys / "queries"), "--db", database, "--json", "--set"]
    capsys.readouterr()
    assert run([*ask, "otherwise=alike:6"]) == 3
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["status"] == "unknown"
    assert record["candidates"][0]["photo"].endswith("120.jpg")
    assert "alike" in record["reason"]
    run([*ask, "otherwise=none"])
    assert "alike" not in capsys.readouterr().out
    assert run([*ask, "otherwise=alike"]) == 1
    assert "SCORER:PHOTOS" in capsys.readouterr().err
    with Localizer.open(database) as localizer:
        options = LocateOptions(RerankOptions(otherwise="alike:6"), is_verified=False)
        answer = localizer.locate(load_image(greys / "queries" / "asked.jpg"), options=options)
        assert answer.candidates[0].photo.endswith("120.jpg")
