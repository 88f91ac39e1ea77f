"""What a report page shows: answers beside their candidates, with the truth where it is known.
`whence.evaluation.html` writes it.

A page is made of answers (`page_of_positions`) or of an evaluation (`page_of_evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whence.data.images import content_hash
from whence.data.metadata import read_metadata
from whence.data.photos import Photos
from whence.errors import InputError
from whence.evaluation.answers import (
    RIGHT_WITHIN_M,
    are_positives,
    deciding_threshold_m,
    risk_curve,
    tabulate_answers,
)
from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.metrics import Recall
from whence.evaluation.protocol import own_queries
from whence.evaluation.report import answer_rows, reliability_rows, risk_rows, uncertainty_rows
from whence.geo import distance_m
from whence.localize.position import estimate_position
from whence.types import Candidate, GeoPoint, Position
from whence.web.plots import PlotPoint, draw_points

MAX_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One query: its answer, the photos to show, and what is known about the truth."""

    position: Position
    photo: Path | None = None
    candidate_photos: tuple[Path, ...] = ()
    """Files of `position.candidates`, in their order."""
    truth: GeoPoint | None = None
    is_right: bool | None = None
    """Whether the answer is right; None where the truth is not known or no answer was given."""
    are_positives: tuple[bool | None, ...] = ()
    """For each candidate whether it shows the place; empty where the truth is not known."""
    match_picture: np.ndarray | None = None
    """RGB pixels (H, W, 3) uint8 of photo and best candidate with what the comparison found."""
    attention_picture: np.ndarray | None = None
    """The photo, with what its descriptor looked at laid over it; None for a model without
    attention."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of the summary; every cell is text."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class PageDrawing:
    """A plot of the summary."""

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    entries: tuple[PageEntry, ...]
    lines: tuple[str, ...] = ()
    """Sentences under the title: model, database, protocol."""
    rule: str = ""
    """What right and wrong mean on this page."""
    tables: tuple[PageTable, ...] = ()
    drawings: tuple[PageDrawing, ...] = ()


def without_own(positions: Sequence[Position], database: Photos) -> tuple[list[Position], int]:
    """The answers whose photos are not the database's own files (the same bytes), and how many of
    those there were."""
    contents = set(database.content.tolist())
    others = [one for one in positions if _content(one.query) not in contents]
    return others, len(positions) - len(others)


def _content(query: str) -> bytes:
    try:
        return content_hash(query).encode()
    except InputError:
        return b""


def page_of_positions(
    positions: Sequence[Position],
    *,
    database: Photos,
    title: str = "Where were these photos taken?",
    notes: Mapping[str, str] | None = None,
    match_pictures: Mapping[str, np.ndarray] | None = None,
    attention_pictures: Mapping[str, np.ndarray] | None = None,
    num_own: int = 0,
) -> Page:
    """A page of answers from a database. Where a query photo carries a position of its own, that is
    taken as the truth.

    `num_own` is how many answers were left out by `without_own`. `notes` and pictures are looked up
    by the query's name.
    """
    entries = []
    for position in positions:
        truth = _own_point(position.query)
        entries.append(
            PageEntry(
                position=position,
                photo=Path(position.query),
                candidate_photos=tuple(
                    database.file(candidate.row) for candidate in position.candidates
                ),
                truth=truth,
                is_right=_is_right(position, truth),
                are_positives=tuple(_is_near(candidate, truth) for candidate in position.candidates)
                if truth
                else (),
                match_picture=(match_pictures or {}).get(position.query),
                attention_picture=(attention_pictures or {}).get(position.query),
                note=(notes or {}).get(position.query, ""),
            )
        )
    rule = ""
    if any(entry.truth is not None for entry in entries):
        rule = (
            "Truth is the position a photo itself carries. An answer is right within "
            f"{RIGHT_WITHIN_M:g} m of it, and so is a candidate."
        )
    lines = (f"Database of {len(database):,} photos.", *((_own_line(num_own),) if num_own else ()))
    return Page(title, tuple(entries), lines, rule)


def _own_line(num_own: int) -> str:
    return (
        f"Left out: {num_own:,} of the photos asked about are the database's own files; that "
        "these are found says nothing."
    )


def page_of_evaluation(result: Evaluation, *, only_wrong: bool = False) -> Page:
    """A page of an evaluation: every query with its candidates, the recalls and their protocol;
    verified answers if any.

    `only_wrong` leaves out the queries whose answer is right.
    """
    data = result.data
    threshold = deciding_threshold_m(result)
    is_positive = are_positives(result, threshold, result.predictions)
    entries = []
    num_right = 0
    is_own = own_queries(result)
    for q, ranked in enumerate(result.ranked()):
        if is_own[q]:
            continue
        positives = tuple(is_positive[q, : len(ranked.candidates)].tolist())
        truth = data.queries.record(q).point
        if result.answers:
            position = result.answers[q]
            is_right = _is_answer_right(position, truth, positives, threshold)
        else:
            position = _estimated(ranked.query, _with_evidence(ranked.candidates, result, q))
            is_right = positives[0] if positives else None
        if only_wrong and is_right:
            num_right += 1
            continue
        entries.append(
            PageEntry(
                position=position,
                photo=data.queries.file(q),
                candidate_photos=tuple(
                    data.database.file(candidate.row) for candidate in ranked.candidates
                ),
                truth=truth,
                is_right=is_right,
                are_positives=positives,
                note=""
                if ranked.candidates
                else "no candidates: counts as a failure in the recalls",
            )
        )
    meaning = (
        "listed as a positive" if threshold is None else f"within {threshold:g} m of the query"
    )
    lines = (
        (
            f"Model {result.model}, vocabulary {result.vocabulary}. {len(data.database):,} "
            "database photos."
        ),
        f"Protocol: {result.protocol}; ordered by {result.order}.",
        *((f"L{str(result.left_out)[1:]}.",) if result.left_out else ()),
        *((f"{_own_line(int(is_own.sum()))} The tables count them.",) if is_own.any() else ()),
        *(
            (
                (
                    f"{num_right:,} queries whose answer is right are left out here; the tables "
                    "count them."
                ),
            )
            if only_wrong
            else ()
        ),
        *(
            (f"{len(result.skipped):,} photos were skipped because they cannot be read.",)
            if result.skipped
            else ()
        ),
    )
    unsure = _uncertainty_tables(result) if result.evidence else ()
    tables = (*unsure, _recall_table(result), _time_table(result))
    if not result.answers:
        rule = (
            f"A query is right where its first candidate is {meaning}; a candidate with a green "
            f"border is {meaning}."
        )
        return Page(f"Evaluation on {data.name}", tuple(entries), lines, rule, tables)
    judged = (
        "its first candidate is listed as a positive"
        if threshold is None
        else f"it is within {threshold:g} m of the truth"
    )
    rule = f"An answer is right where {judged}; a candidate with a green border is {meaning}."
    answered = (PageTable("Verified answers", ("", ""), answer_rows(result)), _risk_table(result))
    return Page(
        f"Evaluation on {data.name}",
        tuple(entries),
        lines,
        rule,
        (*answered, *tables),
        _risk_drawings(result),
    )


def _own_point(query: str) -> GeoPoint | None:
    try:
        return read_metadata(query).point
    except InputError:
        return None


def _is_right(position: Position, truth: GeoPoint | None) -> bool | None:
    if truth is None or position.point is None or position.status == "unknown":
        return None
    return distance_m(position.point, truth) <= RIGHT_WITHIN_M


def _is_near(candidate: Candidate, truth: GeoPoint) -> bool | None:
    return None if candidate.point is None else distance_m(candidate.point, truth) <= RIGHT_WITHIN_M


def _estimated(query: str, candidates: tuple[Candidate, ...]) -> Position:
    estimate = estimate_position(candidates)
    return Position(
        query,
        estimate.status,
        point=estimate.point,
        heading_deg=estimate.heading_deg,
        candidates=candidates,
    )


def _with_evidence(
    candidates: tuple[Candidate, ...], result: Evaluation, query: int
) -> tuple[Candidate, ...]:
    """The candidates with what re-ranking found about them, where it was asked."""
    if not result.evidence:
        return candidates
    pairs = zip(candidates, result.evidence[query], strict=False)
    known = [
        one if found is None else replace(one, evidence=found, num_inliers=found.num_inliers)
        for one, found in pairs
    ]
    return (*known, *candidates[len(known) :])


def _is_answer_right(
    position: Position,
    truth: GeoPoint | None,
    positives: tuple[bool, ...],
    threshold_m: float | None,
) -> bool | None:
    if position.status == "unknown":
        return None
    if threshold_m is not None and truth is not None and position.point is not None:
        return distance_m(position.point, truth) <= threshold_m
    return positives[0] if positives else None


def _uncertainty_tables(result: Evaluation) -> tuple[PageTable, ...]:
    header, *rows = uncertainty_rows(result)
    scores = PageTable(
        "Is retrieval's first candidate right? How well each score tells", header, tuple(rows)
    )
    header, *rows = reliability_rows(result)
    diagram = PageTable(
        "Reliability of all scores together, on queries they were not fitted on",
        header,
        tuple(rows),
    )
    return (scores, diagram) if rows else (scores,)


def _risk_table(result: Evaluation) -> PageTable:
    header, *rows = risk_rows(result)
    return PageTable("Coverage against risk", header, tuple(rows))


def _risk_drawings(result: Evaluation) -> tuple[PageDrawing, ...]:
    """The curve of coverage against risk; none where nothing was answered."""
    table = tabulate_answers(result)
    curve = risk_curve(table.confidences, table.is_first_right)
    kept = np.unique(
        np.linspace(0, len(curve.risks) - 1, min(len(curve.risks), MAX_CURVE_POINTS))
        .round()
        .astype(int)
    )
    points = []
    for i in kept:
        across, up = 100 * float(curve.coverages[i]), 100 * float(curve.risks[i])
        label = (
            f"{across:.1f} % answered, {up:.1f} % wrong; confidence {curve.min_confidences[i]:.3f}"
        )
        points.append(PlotPoint(across, up, title=label))
    svg = draw_points(
        {"": points},
        caption="share of those wrong, in %, against the share answered, in %",
        are_shares=True,
    )
    caption = "Coverage against risk: what would be wrong if only the surest were answered"
    return (PageDrawing(caption, svg),) if svg else ()


def _recall_table(result: Evaluation) -> PageTable:
    header = (
        "positives",
        "queries counted",
        *(f"recall@{recall.n}" for recall in result.thresholds[0].all_queries),
    )
    rows = []
    for scored in result.thresholds:
        name = "as listed" if scored.threshold_m is None else f"within {scored.threshold_m:g} m"
        num = len(result.data.queries)
        rows.append((name, f"all {num:,}", *map(_cell, scored.all_queries)))
        if scored.num_without_positives:
            rows.append(
                (
                    name,
                    f"the {num - scored.num_without_positives:,} with positives",
                    *map(_cell, scored.with_positives),
                )
            )
    return PageTable("Recall with counts and 95 % intervals (Wilson)", header, tuple(rows))


def _time_table(result: Evaluation) -> PageTable:
    whole = sum(result.seconds.values()) or 1.0
    rows = [
        (stage, f"{spent:.1f} s", f"{100 * spent / whole:.0f} %")
        for stage, spent in result.seconds.items()
    ]
    return PageTable("Time of the whole evaluation", ("stage", "time", "share"), tuple(rows))


def _cell(recall: Recall) -> str:
    if not recall.num_queries:
        return "-"
    return (
        f"{100 * recall.value:.1f} % ({recall.num_right}/{recall.num_queries}, "
        f"{100 * recall.low:.0f}–{100 * recall.high:.0f})"
    )
