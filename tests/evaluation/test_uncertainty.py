"""Uncertainty of retrieval: published scores, metrics against slow oracles, and re-ranking only
where retrieval is unsure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from stated_evidence import CountingScorer, names, stated
from whence.cli import run
from whence.errors import BadOption, CalibrationMismatch
from whence.evaluation.trials import logistic
from whence.evaluation.uncertainty import (
    area_under_precision_recall,
    area_under_roc,
    average_precision,
    combine_scores,
    judge_score,
    recall_at_full_precision,
)
from whence.localize.calibration_files import from_json, packaged_calibrations, to_json
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.unseen import MATCH_SHARES, unseen_rivals
from whence.localize.unsure import (
    SURE_FEATURES,
    l2_scores,
    pa_scores,
    squared_distances,
    sue_scores,
    sure_features,
    sure_probability,
)
from whence.localize.verify import confidence_of, confidence_so_far
from whence.types import Candidate, GeoPoint, PairEvidence

LABELS = np.array([1, 1, 1, 0, 1, 0, 0, 1], bool)
VARIANCES = [3428.2243, 848.8904, 199.6752, 1938.6311, 36.6266, 36.9535, 1246.1588, 775.1908]


def golden() -> tuple[np.ndarray, np.ndarray]:
    """8 queries' squared distances (8, 12) and the positions of what they found."""
    q, k = np.mgrid[:8, :12]
    squared = 0.3 + 0.05 * q + 0.004 * k * (1 + q % 3) + 0.002 * k**2
    i = np.arange(40)
    places = np.stack([500000 + 10 * ((7 * i) % 31), 4000000 + 10 * ((11 * i) % 29)], axis=1)
    return squared, places[(3 * q + 5 * k * (1 + q % 4)) % 40].astype(float)


def test_the_published_areas() -> None:
    squared, positions = golden()
    assert area_under_precision_recall(l2_scores(squared), LABELS) == pytest.approx(
        0.874643, abs=1e-6
    )
    assert area_under_precision_recall(pa_scores(squared), LABELS) == pytest.approx(
        0.856667, abs=1e-6
    )
    assert area_under_precision_recall(sue_scores(squared, positions), LABELS) == pytest.approx(
        0.732976, abs=1e-6
    )
    inliers = np.array([50, 50, 20, 20, 10, 4, 4, 4.0])
    assert area_under_precision_recall(inliers, LABELS) == pytest.approx(0.8725, abs=1e-6)
    assert average_precision(inliers, LABELS) == pytest.approx(0.8350, abs=1e-4)


def test_the_published_variances() -> None:
    squared, positions = golden()
    assert -sue_scores(squared, positions) == pytest.approx(VARIANCES, abs=1e-3)
    above = sue_scores(squared, positions, is_capped_above_only=True)
    assert above == pytest.approx(sue_scores(squared, positions))
    coarse = sue_scores(squared.astype(np.float32), positions.astype(np.float32))
    assert np.isfinite(coarse).all()
    assert -coarse == pytest.approx(VARIANCES, rel=1e-3)


def test_the_published_order_with_ties() -> None:
    candidates, prepared = stated([5, 9, 0, 9, 0])
    done = rerank(candidates, query={}, material=prepared, options=RerankOptions())
    assert [one.row for one in done.candidates] == [1, 3, 0, 2, 4]


def slow_sue(squared: np.ndarray, positions: np.ndarray, *, is_one_sided: bool) -> float:
    weights = [np.exp(-350 * abs(d)) for d in squared[:10]]
    weights = [w / sum(weights) for w in weights]
    mean = [sum(w * p[axis] for w, p in zip(weights, positions, strict=False)) for axis in (0, 1)]
    total = 0.0
    for axis in (0, 1):
        for weight, place in zip(weights, positions, strict=False):
            gap = min(500.0, place[axis] - mean[axis])
            total += weight * (gap if is_one_sided else max(-500.0, gap)) ** 2
    return -total / 2


@pytest.mark.parametrize("is_one_sided", [True, False])
def test_sue_is_its_formula_where_the_cut_acts(is_one_sided: bool) -> None:
    random = np.random.default_rng(4)
    squared = np.sort(random.uniform(0.2, 0.215, (6, 12)), axis=1)
    positions = random.uniform(0, 9000, (6, 12, 2))
    found = sue_scores(squared, positions, is_capped_above_only=is_one_sided)
    slow = [
        slow_sue(*row, is_one_sided=is_one_sided) for row in zip(squared, positions, strict=True)
    ]
    assert found == pytest.approx(slow)
    other = sue_scores(squared, positions, is_capped_above_only=not is_one_sided)
    assert not np.allclose(found, other)


def test_missing_candidates_and_positions() -> None:
    squared, positions = golden()
    assert pa_scores(squared[:, :1]).tolist() == [0.0] * 8
    assert pa_scores(np.zeros((1, 2))).tolist() == [-1.0]
    positions[0] = np.nan
    positions[1, 5:] = np.nan
    found = sue_scores(squared, positions)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(sue_scores(squared[1:2, :5], positions[1:2, :5])[0])
    assert squared_distances(np.array([1.0, 0.0, 1.0 + 1e-7])).tolist() == [0.0, 2.0, 0.0]


@given(st.integers(0, 10**6), st.integers(2, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_metrics_are_those_of_scikit_learn(seed: int, num: int, has_ties: bool) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 6, num).astype(float) if has_ties else random.normal(size=num)
    labels = random.random(num) < 0.6
    labels[:2] = [True, False]
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert area_under_precision_recall(scores, labels) == pytest.approx(auc(recall, precision))
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores)
    )
    assert area_under_roc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    full = max(
        (
            float((labels & (scores >= t)).sum() / labels.sum())
            for t in scores
            if labels[scores >= t].all()
        ),
        default=0.0,
    )
    assert recall_at_full_precision(scores, labels) == pytest.approx(full)


def test_metrics_without_right_or_wrong_queries() -> None:
    scores = np.array([3.0, 2.0, np.nan])
    none = judge_score("none", scores, np.zeros(3, bool))
    assert np.isnan(
        [none.auprc, none.average_precision, none.auroc, none.recall_at_full_precision]
    ).all()
    every = judge_score("all", scores, np.ones(3, bool))
    assert (every.auprc, every.recall_at_full_precision, every.share_right) == (1.0, 1.0, 1.0)
    assert np.isnan(every.auroc)
    worst = judge_score("last", scores, np.array([True, True, False]))
    assert worst.auroc == 1.0


def test_the_combination_is_fitted_on_other_queries() -> None:
    random = np.random.default_rng(1)
    labels = random.random(400) < 0.7
    scores = {
        "a": labels + random.normal(0, 1, 400),
        "b": labels + random.normal(0, 1, 400),
        "c": random.normal(0, 1, 400),
    }
    together = combine_scores(scores, labels)
    assert together is not None
    assert together.shape == (400,)
    assert ((together > 0) & (together < 1)).all()
    single = max(area_under_roc(values, labels) for values in scores.values())
    assert area_under_roc(together, labels) > single
    assert np.array_equal(together, combine_scores(scores, labels))
    shuffled = combine_scores(scores, random.permutation(labels))
    assert shuffled is not None
    assert abs(area_under_roc(shuffled, labels) - 0.5) < 0.2, (
        "labels that say nothing must teach nothing"
    )
    assert combine_scores(scores, np.ones(400, bool)) is None


# Re-ranking only where retrieval is unsure.

WEIGHTS = (-4.0, 2.0, 0.0, 0.0, 0.0)


def sure(candidates: Sequence[Candidate]) -> float:
    """Half sure at about 6.4 inliers of the best candidate."""
    return max(
        1 / (1 + np.exp(4 - 2 * np.log1p(one.num_inliers or 0)))
        for one in candidates
        if one.evidence is not None
    )


def test_a_sure_first_candidate_is_kept_and_nothing_else_compared() -> None:
    candidates, prepared = stated([60, 90, 5])
    options = RerankOptions(when_unsure=0.9)
    done = rerank(candidates, query={}, material=prepared, options=options, sure=sure)
    assert names(done.candidates) == ["0.jpg", "1.jpg", "2.jpg"]
    assert done.num_compared == 1
    assert done.sure is not None
    assert done.sure > 0.9
    assert "1 of 3 candidates compared: one is right" in done.reason
    assert [one.num_inliers for one in done.candidates] == [60, None, None]
    assert [one.retrieved_rank for one in done.candidates] == [1, 2, 3]


@pytest.mark.parametrize("first", [3, None])
def test_an_unsure_first_candidate_is_compared_with_the_others(first: float | None) -> None:
    candidates, prepared = stated([first, 90, 5])
    done = rerank(
        candidates, query={}, material=prepared, options=RerankOptions(when_unsure=0.9), sure=sure
    )
    assert names(done.candidates) == ["1.jpg", "0.jpg", "2.jpg"]
    assert [one.num_inliers for one in done.candidates] == [90, first, None]
    assert done.num_compared == (1 if first is None else 2)
    assert done.sure is not None
    assert done.sure > 0.9
    never, _ = candidates, prepared
    done = rerank(
        never,
        query={},
        material=stated([3, 4, 5])[1],
        options=RerankOptions(when_unsure=0.9),
        sure=sure,
    )
    assert done == rerank(never, query={}, material=stated([3, 4, 5])[1], options=RerankOptions())
    assert done.sure is None


def test_without_a_calibration_nothing_says_when_a_candidate_is_right() -> None:
    candidates, prepared = stated([60, 90])
    with pytest.raises(CalibrationMismatch, match="compare all"):
        rerank(candidates, query={}, material=prepared, options=RerankOptions(when_unsure=0.9))
    for value in (0.0, 1.0, 2.0):
        with pytest.raises(BadOption):
            RerankOptions(when_unsure=value)


def test_the_features() -> None:
    candidates, prepared = stated([60, 90, 5])
    placed = [
        replace(one, point=GeoPoint(59.0, 18.0 + 0.0001 * i)) for i, one in enumerate(candidates)
    ]
    evidence = next(CountingScorer().score({}, [prepared.of_row(0)]))
    found = dict(zip(SURE_FEATURES, sure_features(placed, evidence), strict=True))
    squared = [2 - 2 * one.similarity for one in placed]
    assert found["log_inliers"] == pytest.approx(np.log(61))
    assert (found["l2"], found["pa"]) == pytest.approx(
        (-squared[0], -1.0 if squared[1] == 0 else -squared[0] / squared[1])
    )
    assert sure_features(placed[::-1], evidence) == pytest.approx(sure_features(placed, evidence))
    far = [*placed[:1], *(replace(one, point=GeoPoint(59.0, 18.5)) for one in placed[1:])]
    close = [replace(one, similarity=0.9 - 1e-4 * i) for i, one in enumerate(far)]
    near = [replace(one, similarity=0.9 - 1e-4 * i) for i, one in enumerate(placed)]
    assert sure_features(close, evidence)[3] < sure_features(near, evidence)[3]
    assert sure_features(candidates, None)[0] == 0
    features = sure_features(placed, evidence)
    assert sure_probability(features, WEIGHTS) == pytest.approx(
        float(logistic(features[None], WEIGHTS)[0])
    )


def test_a_calibration_of_earlier_versions_had_a_fit_of_its_own_for_ending_early() -> None:
    plain = packaged_calibrations()[0]
    assert (
        from_json(json.dumps({**json.loads(to_json(plain)), "first_stage": WEIGHTS}), where="x")
        == plain
    )


def found(inliers: int, matches: int) -> PairEvidence:
    return PairEvidence(float(inliers), matches, num_inliers=inliers, num_keypoints=1000)


def elsewhere(rank: int, evidence: PairEvidence | None, *, is_placed: bool = True) -> Candidate:
    point = GeoPoint(59.0, 18.0 + 0.01 * rank) if is_placed else None
    return Candidate(f"{rank}.jpg", rank, 0.5, point=point, evidence=evidence, row=rank)


@pytest.mark.parametrize("is_placed", [True, False])
def test_what_was_not_compared_counts_against_the_best_so_far(is_placed: bool) -> None:
    weights = (-3.0, 0.2, 0.0, 1.0, 2.0)
    calibration = replace(packaged_calibrations()[0], with_points=weights, without_points=weights)
    strong, weak = found(60, 120), found(8, 30)

    def so_far(num: int, others: int = 19) -> float:
        first = elsewhere(1, strong, is_placed=is_placed)
        rest = [
            elsewhere(rank, weak if rank <= num else None, is_placed=is_placed)
            for rank in range(2, others + 2)
        ]
        return confidence_so_far([first, *rest], calibration)

    grows = [so_far(num) for num in (1, 5, 10, 15, 20)]
    assert (np.diff(grows) > -1e-12).all()
    assert grows[0] < grows[-1]
    assert so_far(1, others=5) >= so_far(1, others=19), (
        "fewer that may show something leave less doubt"
    )
    many = [
        elsewhere(1, strong, is_placed=is_placed),
        *(elsewhere(rank, weak, is_placed=is_placed) for rank in range(2, 21)),
    ]
    beyond = [elsewhere(rank, None, is_placed=is_placed) for rank in range(21, 41)]
    assert confidence_so_far([*many, *beyond], calibration) == pytest.approx(
        confidence_so_far(many, calibration)
    )
    unread = [elsewhere(1, None, is_placed=is_placed), *many[1:]]
    assert confidence_so_far(unread, calibration) == confidence_of(unread, 1, calibration)
    assert confidence_so_far([elsewhere(1, None)], calibration) == 0


def test_the_best_of_fewer_shows_less() -> None:
    assert unseen_rivals(0, 1000).tolist() == [[0.0, 0.0]]
    means = [unseen_rivals(num, 1000).mean(axis=0) for num in (1, 5, 20)]
    assert (np.diff(means, axis=0) >= 0).all()
    assert np.array_equal(unseen_rivals(20, 1000), unseen_rivals(90, 1000))
    assert np.allclose(unseen_rivals(20, 1000)[:, 1], 1000 * np.array(MATCH_SHARES))


def test_scores_stand_in_the_evaluation(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert (
        run(
            [
                "evaluate",
                str(street),
                "--rerank",
                "inliers",
                "--set",
                "num_candidates=5",
                "--json",
                "--report",
                str(page),
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)["uncertainty"]
    assert [one["name"] for one in record["scores"]] == ["L2", "PA", "SUE", "inliers"]
    assert record["scores"][3]["num_queries"] == 24
    assert record["num_compared"] == 24 * 5
    assert record["combined"] is None
    assert "first candidate right" in page.read_text()
    assert run(["evaluate", str(street), "--rerank", "inliers", "--set", "num_candidates=5"]) == 0
    assert "recall at 100 % precision" in capsys.readouterr().out


def test_comparing_ends_with_the_packaged_calibrations(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        str(street),
        "--rerank",
        "inliers",
        "--set",
        "num_candidates=5",
        "--json",
        "--set",
    ]
    numbers, recalls = [], []
    for least in ("0.05", "0.9999"):
        assert run([*words, f"when_unsure={least}"]) == 0
        record = json.loads(capsys.readouterr().out)
        numbers.append(record["uncertainty"]["num_compared"])
        recalls.append(next(one["recall"] for one in record["recalls"] if one["n"] == 1))
    assert 24 <= numbers[0] <= numbers[1] <= 24 * 5
    assert min(recalls) > 0.9
    # Without verification the number is taken as it is.
    database = str(tmp_path / "street.whence")
    assert run(["index", str(street / "database"), "--db", database, "-q"]) == 0
    capsys.readouterr()
    query = str(min((street / "queries").iterdir()))
    asked = [
        "locate",
        query,
        "--db",
        database,
        "--no-verify",
        "--set",
        "when_unsure=0.05",
        "--json",
    ]
    assert run(asked) == 0
    assert (
        "1 of 20 candidates compared: one is right" in json.loads(capsys.readouterr().out)["reason"]
    )
    assert run([*asked[:-3], "--calibration", str(tmp_path / "missing.json")]) == 1
    capsys.readouterr()
