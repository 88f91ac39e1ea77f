"""`whence evaluate`: how often is the answer right?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from whence.cli import completion
from whence.cli.cell_evaluation import print_cells
from whence.cli.output import print_json, report_remarks, set_help, show, write_all
from whence.cli.protocols import PROTOCOLS, evaluate_by
from whence.cli.sets import read_set
from whence.data.predictions import (
    PAIRS_SUFFIX,
    PairNames,
    read_ranked,
    write_hloc_pairs,
    write_predictions,
)
from whence.errors import BadOption
from whence.evaluation.stated import StatedEvaluation
from whence.runtime import check_place
from whence.settings import DEFAULT_MODEL, load_settings, parse_options, with_assignments

if TYPE_CHECKING:
    from whence.evaluation.benchmarks import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate", help="Measure recall and position error on photos with known places.")(
        evaluate
    )


@dataclass(frozen=True, slots=True)
class EvaluateFields(StatedEvaluation):
    """The fields that `--set FIELD=VALUE` takes."""

    pool: str = ""
    """With --sequence: own, mean, max, cat, delta, seqgem, or matching and aligned, which compare
    frames."""
    is_reversed: bool = False
    """With --sequence: whether the database's frames come in the other order."""
    speed: int = 1
    """With --sequence: query drives at so many times the speed."""
    pairs_root: str | None = None
    """Folder that hloc pairs name all photos from. Default: their own folders."""


_SET = typer.Option([], "--set", help=set_help(EvaluateFields))


def evaluate(
    data: str = typer.Argument(
        ...,
        help=(
            "Folder with database and queries, a CSV of query,positives, a folder of photos, or a "
            "published set's name."
        ),
    ),
    model: str = typer.Option(
        None,
        autocompletion=completion.models,
        help="Model to evaluate; `whence models` lists them.",
    ),
    option: list[str] = typer.Option(
        [], "--option", help="Model option as name=value. May be repeated."
    ),
    assignments: list[str] = _SET,
    protocol: str = typer.Option(
        None,
        "--protocol",
        autocompletion=completion.published_sets,
        help="Published set that the folder holds: pitts30k, msls-val, ...; revisited: landmarks; "
        "earthloc: photos from orbit; registration: pairs of images with tie points.",
    ),
    layout: str = typer.Option(
        None,
        "--layout",
        autocompletion=completion.layouts,
        help="How the files lie, by name. Default: as it is recognised.",
    ),
    sequence: int = typer.Option(
        None,
        "--sequence",
        help="Count windows of so many frames of drives instead of single photos.",
    ),
    leave_one_out: bool = typer.Option(
        False,
        "--leave-one-out",
        help="Each photo asks all others (those of the same content left out).",
    ),
    positions: str = typer.Option(None, help="CSV or GeoJSON file with the photos' positions."),
    work: str = typer.Option(
        None, help="Folder that keeps the descriptors, so that a stopped run goes on."
    ),
    predictions: str = typer.Option(
        None,
        help=(
            "Score this file instead of a model: CSV query,rank,photo,similarity, or hloc pairs "
            "(.txt)."
        ),
    ),
    rerank: str = typer.Option(
        None,
        "--rerank",
        autocompletion=completion.scorers,
        help="Order the first candidates by this pair scorer, or chain: geowarp:100,inliers:10.",
    ),
    engine: str = typer.Option(
        "flat", help="Search engine, as whence index takes it; flat compares with every photo."
    ),
    cells: str = typer.Option(
        None,
        "--cells",
        help=(
            "File of learned cells: tells places by them alone, and counts these; with --engine "
            "cells searches in the best ones."
        ),
    ),
    save_predictions: list[str] = typer.Option(
        [],
        "--save-predictions",
        help=(
            "Write the ranked candidates to this file: CSV, or hloc pairs (.txt). May be repeated."
        ),
    ),
    report: str = typer.Option(
        None, "--report", help="Write a page with map, photos and candidates to this HTML file."
    ),
    only_wrong: bool = typer.Option(
        False, "--only-wrong", help="With --report: only the queries whose answer is not right."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Print recall@N with counts, 95 % intervals and protocol, position errors, and with --rerank
    the worth of answers."""
    from whence.cli.sequence_evaluation import print_sequences, sequence_rules
    from whence.evaluation.benchmarks import EvaluationStopped
    from whence.evaluation.benchmarks import evaluate as run
    from whence.evaluation.foreign import evaluate_predictions
    from whence.localize.engine import EXACT

    fields = with_assignments(EvaluateFields(), assignments)
    if sequence is not None:
        rules = sequence_rules(
            sequence, fields.pool, (fields.is_reversed, fields.speed), fields=fields
        )
        where = (data, fields.split, fields.database_folder, fields.queries_folder)
        return print_sequences(
            where, model, parse_options(option), rules, as_json=as_json, quiet=quiet
        )
    if protocol in PROTOCOLS:
        chosen = parse_options(option)
        return evaluate_by(protocol, data, model or DEFAULT_MODEL, chosen, fields, as_json=as_json)
    options = fields.options(
        data, rerank, protocol=protocol, engine=engine, work=work, leave_one_out=leave_one_out
    )
    if cells is not None and engine != EXACT:
        options = replace(options, cells=Path(cells))
    reading = {
        "protocol": protocol,
        "layout": layout,
        "positions": positions,
        "leave_one_out": leave_one_out,
    }
    data_set = read_set(data, fields, **reading)
    report_remarks(dict.fromkeys((*data_set.database.remarks, *data_set.queries.remarks)))
    if cells is not None and engine == EXACT:
        if predictions or rerank or report or save_predictions or leave_one_out:
            raise BadOption(
                "--cells without --engine cells counts cells: it takes queries, and prints alone"
            )
        return print_cells(cells, data_set, options, model, parse_options(option), as_json, quiet)
    has_pairs = any(file.endswith(PAIRS_SUFFIX) for file in save_predictions)
    if fields.pairs_root is not None and not has_pairs:
        raise BadOption("pairs_root goes with --save-predictions FILE.txt")
    pairs = PairNames.of(data_set, root=fields.pairs_root) if has_pairs else None
    for file in (*save_predictions, report):
        if file is not None:
            check_place(file)
    if only_wrong and report is None:
        raise BadOption("--only-wrong goes with --report FILE")
    outputs = _Outputs(as_json, tuple(save_predictions), pairs, report, only_wrong)
    if predictions is not None and rerank is not None:
        raise BadOption("--rerank orders candidates that Whence finds, not those of --predictions")
    if predictions is not None:
        result = evaluate_predictions(
            read_ranked(predictions), data_set, name=predictions, options=options
        )
    else:
        name = load_settings(flags={"model": model}).model
        progress = False if quiet or as_json else None
        try:
            result = run(
                name,
                data_set,
                options=options,
                model_options=parse_options(option),
                show_progress=progress,
            )
        except EvaluationStopped as stopped:
            if stopped.partial is not None:
                _give(stopped.partial, outputs)
            raise
    return _give(result, outputs)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where an evaluation goes."""

    as_json: bool
    prediction_files: tuple[str, ...]
    pairs: PairNames | None
    report_file: str | None
    only_wrong: bool = False


def _give(result: Evaluation, outputs: _Outputs) -> int:
    """Print first, then write what else was asked for; exit code 1 where a file cannot be
    written."""
    from whence.evaluation.html import write_page
    from whence.evaluation.page import page_of_evaluation
    from whence.evaluation.report import as_records, as_table

    if outputs.as_json:
        print_json(as_records(result))
    else:
        show(as_table(result))
    jobs: list[Callable[[], None]] = []
    for file in outputs.prediction_files:
        if file.endswith(PAIRS_SUFFIX) and (pairs := outputs.pairs) is not None:
            jobs.append(partial(write_hloc_pairs, file, pairs.renamed(result.ranked())))
        else:
            jobs.append(partial(write_predictions, file, result.ranked()))
    if (report_file := outputs.report_file) is not None:
        jobs.append(
            lambda: write_page(
                report_file, page_of_evaluation(result, only_wrong=outputs.only_wrong)
            )
        )
    return write_all(jobs)
