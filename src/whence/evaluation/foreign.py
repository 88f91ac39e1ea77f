"""Predictions that another program made, counted by the same rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.data.predictions import Ranked
from whence.data.tables import plain_name
from whence.errors import InputError
from whence.evaluation.benchmarks import Evaluation, EvaluationOptions, counted_evaluation
from whence.evaluation.protocol import leave_out_unplaced, same_content


def evaluate_predictions(
    ranked: Sequence[Ranked],
    data: EvaluationSet,
    *,
    name: str,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """The recall of predictions that were made elsewhere. Queries without a line count as failures.

    Photos are named by their path within the set; where base names are unique they are enough. What
    the set passes over is taken out of the lists. Raises `InputError` for a name the set does not
    have, and in leave-one-out for a query that answers itself.
    """
    options = options or EvaluationOptions()
    if options.is_leave_one_out:
        data = EvaluationSet(data.name, data.database, data.database, data.positives)
    query_row, database_row = _rows_by_name(data.queries), _rows_by_name(data.database)
    whole = data
    data, left_out = leave_out_unplaced(data)
    kept_query, kept_photo = (
        _kept_rows(whole.queries, left_out.queries),
        _kept_rows(whole.database, left_out.database),
    )
    k = max(options.k, *options.recall_at)
    predictions = np.full((len(data.queries), k), -1, np.int64)
    similarities = np.full((len(data.queries), k), np.nan, np.float32)
    for one in ranked:
        q = kept_query[_find(one.query, query_row, whole.queries, f"query of {name}")]
        rows = [
            _find(photo.photo, database_row, whole.database, f"database photo of {name}")
            for photo in one.candidates
        ]
        out = () if data.passed_over is None or q < 0 else data.passed_over.of(int(q))
        counting = [row >= 0 and row not in out for row in (int(kept_photo[row]) for row in rows)]
        kept = [
            (kept_photo[row], photo)
            for row, photo, counts in zip(rows, one.candidates, counting, strict=True)
            if counts
        ]
        for column, (row, photo) in enumerate(kept[:k] if q >= 0 else ()):
            predictions[q, column], similarities[q, column] = row, photo.similarity
    if (
        options.is_leave_one_out
        and (same := _answers_itself(predictions, data.database)) is not None
    ):
        raise InputError(
            f"{name}: {data.queries.paths[same]!r} is given itself as an answer, which "
            "leave-one-out leaves out"
        )
    return replace(
        counted_evaluation(name, data, predictions, similarities, options), left_out=left_out
    )


def _rows_by_name(photos: Photos) -> dict[str, int]:
    """Row by path within the set, from folders above, on disk, and by base name where that is
    unique (-1 where it is not)."""
    rows: dict[str, int] = {}
    paths = [plain_name(path) for path in photos.paths]
    for row, path in enumerate(paths):
        base = path.rsplit("/", 1)[-1]
        rows[base] = -1 if base in rows else row
    folder = Path(photos.root).absolute()
    for row, path in enumerate(paths):
        # As hloc and others name them: from a folder above, or from anywhere on this disk.
        above = (
            f"{folder.parent.name}/{folder.name}/{path}",
            f"{folder.name}/{path}",
            str(photos.file(row)),
        )
        rows |= {plain_name(name): row for name in above}
    return rows | {path: row for row, path in enumerate(paths)}


def _kept_rows(photos: Photos, left_out: Sequence[str]) -> np.ndarray:
    """(N,) for each photo its row among those that are kept, -1 where it is left out."""
    names = set(left_out)
    is_kept = np.array([path not in names for path in photos.paths], bool)
    return np.where(is_kept, np.cumsum(is_kept) - 1, -1)


def _find(name: str, rows: Mapping[str, int], photos: Photos, what: str) -> int:
    plain = plain_name(name)
    row = rows.get(plain, rows.get(plain.rsplit("/", 1)[-1]))
    if row is None or row < 0:
        why = (
            "is not in the set"
            if row is None
            else "names several photos of the set; give their paths"
        )
        raise InputError(f"{what} {name!r} {why}, for example {photos.paths[0]!r}")
    return row


def _answers_itself(predictions: np.ndarray, photos: Photos) -> int | None:
    own = same_content(photos)
    for q in range(len(predictions)):
        if np.isin(predictions[q], own.of(q)).any():
            return q
    return None
