"""Answers of `whence locate` for people: a page, one answer in full, many as a table; files are
`whence.localize.records`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whence.cli.output import from_here, print_note, show, show_table
from whence.data.elsewhere import joined
from whence.data.fields import as_text
from whence.data.photos import Photos
from whence.localize.localizer import LocateOptions
from whence.localize.unknown import AUTO, AUTO_SCORER, NONE, automatic_state
from whence.models.descriptor import DescriptorModel
from whence.parts import PairScorer
from whence.settings import NO_OPTIONS, OTHERWISE
from whence.types import Candidate, Position

NUM_SHOWN = 5


def write_report(
    path: str,
    positions: list[Position],
    database: Photos,
    *,
    scorer: PairScorer | None,
    model: DescriptorModel,
    is_quiet: bool,
) -> None:
    """Answers as one HTML page that opens offline."""
    from whence.evaluation.drawings import draw_attentions, draw_pairs
    from whence.evaluation.html import write_page
    from whence.evaluation.page import page_of_positions, without_own

    # Cells are no photos: an answer by them is a place on the map alone.
    of_photos = [
        one if all(found.row >= 0 for found in one.candidates) else replace(one, candidates=())
        for one in positions
    ]
    others, num_own = without_own(of_photos, database)
    pictures = draw_pairs(
        others, database=database, scorer=scorer, show_progress=False if is_quiet else None
    )
    looked = draw_attentions(others, model.attention)
    write_page(
        path,
        page_of_positions(
            others,
            database=database,
            match_pictures=pictures,
            attention_pictures=looked,
            num_own=num_own,
        ),
    )
    if num_own:
        print_note(
            f"{num_own} of the photos are the database's own files and are left out of {path}"
        )


def note_second_look(positions: Sequence[Position], options: LocateOptions) -> None:
    """Note how unknown photos could be asked again, where nothing but the weights for it is
    missing."""
    is_asked = options.is_verified and options.when_unknown == AUTO
    if (
        is_asked
        and any(one.status == "unknown" and one.is_verified for one in positions)
        and automatic_state() == "no weights"
    ):
        print_note(
            f"photos that stay unknown could be asked again with {AUTO_SCORER}, which knows more "
            "by night and across seasons:  "
            f"whence models --fetch {AUTO_SCORER}  fetches its weights, once"
        )


def announce_weights(options: LocateOptions) -> None:
    """Say what is fetched for the scorers that were asked for by name; the usual one needs
    nothing."""
    asked = (
        [] if options.rerank is None else [(options.rerank.scorer, options.rerank.scorer_options)]
    )
    if options.rerank is not None and options.rerank.otherwise not in (OTHERWISE, NONE):
        asked.append((options.rerank.otherwise, NO_OPTIONS))
    asked += (
        [(options.when_unknown, NO_OPTIONS)] if options.when_unknown not in (AUTO, NONE) else []
    )
    if any(scorer != "inliers" for scorer, _ in asked):
        from whence.cli.fetch import announce_scorer_weights

        for scorer, chosen in asked:
            announce_scorer_weights(scorer, chosen)


def _place_text(position: Position, photo_root: Path) -> str:
    if position.point is not None:
        heading = (
            "" if position.heading_deg is None else f", looking {position.heading_deg:.0f} deg"
        )
        radius = "" if position.radius_m is None else f" within {position.radius_m:.0f} m"
        return f"{position.point.lat:.6f}, {position.point.lon:.6f}{radius}{heading}"
    if position.status == "unknown":
        return position.reason
    if position.candidates:
        return f"the place of {_named(position.candidates[0], photo_root)} (no coordinates)"
    return position.reason


def _named(candidate: Candidate, photo_root: Path) -> str:
    """The file of a candidate as seen from here; a cell, which is no photo, by its name."""
    return candidate.photo if candidate.row < 0 else from_here(joined(photo_root, candidate.photo))


def _status_text(position: Position) -> str:
    is_answer = position.status != "unknown"
    return (
        f"{position.status} (not verified)"
        if is_answer and not position.is_verified
        else position.status
    )


def _guess_text(position: Position, photo_root: Path) -> str:
    """Where an unknown photo would be if its best candidate were right; empty where there is
    none."""
    guess = position.best_guess
    if guess is None:
        return ""
    at = guess.point
    where = (
        from_here(joined(photo_root, guess.photo)) if at is None else f"{at.lat:.6f}, {at.lon:.6f}"
    )
    sure = "" if guess.confidence is None else f" (confidence {guess.confidence:.2f})"
    return f"best guess, not an answer: {where}{sure}"


def show_one(position: Position, photo_root: Path) -> None:
    """Print one answer with its first candidates."""
    sure = "" if position.confidence is None else f" (confidence {position.confidence:.2f})"
    show(
        as_text(
            (
                f"{position.query}: {_status_text(position)}: "
                f"{_place_text(position, photo_root)}{sure}"
            ),
            style="bold",
        )
    )
    if not position.candidates:
        return
    if guess := _guess_text(position, photo_root):
        show(as_text(guess))
    rows = []
    for candidate in position.candidates[:NUM_SHOWN]:
        point = candidate.point
        where = ("-", "-") if point is None else (f"{point.lat:.6f}", f"{point.lon:.6f}")
        inliers = "-" if candidate.num_inliers is None else str(candidate.num_inliers)
        numbers = (str(candidate.rank), f"{candidate.similarity:.3f}", inliers, *where)
        rows.append((*numbers, _named(candidate, photo_root)))
    show_table(("rank", "similarity", "inliers", "lat", "lon", "photo"), rows)
    if not position.is_verified:
        print_note(
            position.reason
            or "not verified: the best match is shown, whether or not it is the place"
        )


def show_many(positions: list[Position], photo_root: Path) -> None:
    """Print the answers as a table, one line per query, and one for a guess."""
    rows = []
    for one in positions:
        similarity = f"{one.candidates[0].similarity:.3f}" if one.candidates else ""
        sure = "" if one.confidence is None else f"{one.confidence:.2f}"
        place = _place_text(one, photo_root)
        rows.append((one.query, _status_text(one), place, similarity, sure))
        if guess := _guess_text(one, photo_root):
            rows.append(("", "", guess, "", ""))
    show_table(("query", "status", "place", "similarity", "confidence"), rows)
