"""`whence evaluate --cells`: how often the cells of a file are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from whence.cli.output import print_json, show
from whence.data.formats import EvaluationSet

if TYPE_CHECKING:
    from whence.evaluation.benchmarks import EvaluationOptions


def print_cells(
    file: str,
    data: EvaluationSet,
    options: EvaluationOptions,
    model: str | None,
    model_options: Mapping[str, Any],
    as_json: bool,
    quiet: bool,
) -> int:
    """Print how often the cells of a file are right; `model` in place of the one they name."""
    from whence.evaluation.localization import as_cell_records, as_cell_table, evaluate_cells
    from whence.index.cells.classifier import read_cells
    from whence.localize.cells import CellLocalizer
    from whence.models.descriptor import load_model

    beside = None if model is None else load_model(model, options=model_options)
    told = CellLocalizer.of_classifier(read_cells(file), beside=beside)
    progress = False if quiet or as_json else None
    result = evaluate_cells(
        told.cells,
        told.model,
        data,
        rate_at=options.recall_at,
        views=options.views,
        show_progress=progress,
    )
    if as_json:
        print_json(as_cell_records(result))
    else:
        show(as_cell_table(result))
    return 0
