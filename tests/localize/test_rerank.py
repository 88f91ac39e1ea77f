"""Re-ranking: the order follows evidence, budgets hold, the order stays where nothing can be
said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stated_evidence import CountingScorer, names, stated
from whence.cli import run
from whence.data.photos import Photos
from whence.errors import BadOption, UnknownName
from whence.localize import prepared_photos as module
from whence.localize.localizer import Localizer
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.models.descriptor import load_model
from whence.registry import get_card
from whence.settings import BuildOptions
from whence.types import Photo


def test_the_order_follows_the_evidence_and_ties_keep_theirs() -> None:
    candidates, prepared = stated([5, 30, 5, 40, None])
    done = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert names(done.candidates) == ["3.jpg", "1.jpg", "0.jpg", "2.jpg", "4.jpg"]
    assert [one.rank for one in done.candidates] == [1, 2, 3, 4, 5]
    assert [one.retrieved_rank for one in done.candidates] == [4, 2, 1, 3, 5]
    assert [one.num_inliers for one in done.candidates] == [40, 30, 5, 5, None]
    assert done.candidates[0].similarity == pytest.approx(0.7)
    assert (done.num_compared, done.reason) == (4, "")


def test_photos_after_the_budget_keep_their_order() -> None:
    candidates, prepared = stated([1, 2, 90, 80])
    done = rerank(candidates, query={}, material=prepared, options=RerankOptions(num_candidates=2))
    assert names(done.candidates) == ["1.jpg", "0.jpg", "2.jpg", "3.jpg"]
    assert [one.evidence is None for one in done.candidates] == [False, False, True, True]


def test_seconds_end_the_comparison() -> None:
    candidates, prepared = stated([1, 2, 90, 80])
    ticks = iter([0.0, 0.4, 0.9, 1.4, 1.9])
    done = rerank(
        candidates,
        query={},
        material=prepared,
        options=RerankOptions(max_seconds=1.0),
        clock=lambda: next(ticks),
    )
    assert done.num_compared == 3
    assert names(done.candidates) == ["2.jpg", "1.jpg", "0.jpg", "3.jpg"]
    assert "3 of 4" in done.reason


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [None, None]])
def test_without_evidence_the_order_stays_and_says_why(values: list[float | None]) -> None:
    candidates, prepared = stated(values)
    done = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert names(done.candidates) == names(candidates)
    assert "order is that of retrieval" in done.reason
    empty = rerank([], query={}, material=prepared, options=RerankOptions())
    assert (empty.candidates, empty.reason) == ((), "no candidates")


def test_impossible_budgets() -> None:
    for options in ({"num_candidates": 0}, {"max_seconds": 0.0}):
        with pytest.raises(BadOption):
            RerankOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="inliers"):
        RerankOptions("inlayers")


@pytest.mark.parametrize("keep_local", [True, False])
def test_kept_local_descriptors_are_used(
    street: Path, tmp_path: Path, keep_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:6]:
        shutil.copy(file, tmp_path / "photos")
    options = BuildOptions(keep_local=keep_local)
    with Localizer.build(
        tmp_path / "photos", path=tmp_path / "c.whence", options=options
    ) as localizer:
        prepared = PreparedPhotos.for_model(
            RerankOptions(), localizer.model, localizer.photos, store=localizer.store
        )
        assert prepared.is_shared
        made = []
        real = PreparedPhotos.of_image
        monkeypatch.setattr(
            PreparedPhotos, "of_image", lambda self, source: made.append(1) or real(self, source)
        )
        first, again = prepared.of_row(3), prepared.of_row(3)
        assert first is not None
        assert again is not None
        fresh = prepared.scorer.prepare(localizer.model.read(localizer.photos.file(3)))
        assert all(np.array_equal(first[name], fresh[name]) for name in fresh)
        assert len(made) == (0 if keep_local else 1)


def test_memory_is_bounded(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 20)
    files = sorted((street / "database").iterdir())[:5]
    photos = Photos.of([Photo(path=str(file), content=f"{i:032x}") for i, file in enumerate(files)])
    prepared = PreparedPhotos(CountingScorer(), get_card("inliers", kind="scorer"), photos)
    for row in (0, 1, 2, 3, 3, 0, 4):
        assert prepared.of_row(row) == {"value": 0.0}
        assert len(prepared._remembered) <= 2
    assert [int(content, 16) for content in prepared._remembered] == [0, 4]
    assert prepared._num_remembered_bytes == 16


def test_other_models_do_not_share_their_local_descriptors() -> None:
    for name in ("densevlad", "rootsift-vlad"):
        prepared = PreparedPhotos.for_model(RerankOptions(), load_model(name), Photos.of([]))
        assert prepared.is_shared == (name == "rootsift-vlad")
        assert prepared.cache_ids[-1].startswith("inliers.v1.")


@pytest.mark.parametrize("work", [True, False])
def test_evaluation_with_reranking(
    street: Path, tmp_path: Path, work: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "evaluate",
        str(street),
        "--rerank",
        "inliers",
        "--set",
        "num_candidates=5",
        "--json",
    ]
    arguments += ["--work", str(tmp_path / "work")] if work else []
    assert run(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert (
        record["order"]
        == "inliers among the first 5, geowarp among the first 5 where that says nothing"
    )
    assert record["recalls"][0]["num_right"] == 24
    assert "rerank" in record["seconds"]
    if not work:
        assert run(["evaluate", str(street), "--rerank", "nothing"]) == 1


@pytest.mark.real
@pytest.mark.slow
def test_stockholm_reranked(real_data: Path) -> None:
    """Real photos of buildings, taken on another day: re-ranked at least 24 of 25 are right."""
    from whence.data.formats import read_pairs
    from whence.evaluation.benchmarks import EvaluationOptions, evaluate

    data = read_pairs(real_data / "stockholm-buildings" / "positives.csv")
    result = evaluate("rootsift-vlad", data, options=EvaluationOptions(rerank=RerankOptions()))
    assert result.thresholds[0].all_queries[0].num_right >= 24
