"""`whence compare`: which of these models is better, and by how much?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from whence.cli import completion
from whence.cli.output import print_json, report_remarks, set_help, show
from whence.cli.sets import read_set
from whence.data.predictions import PAIRS_SUFFIX, read_ranked
from whence.evaluation.stated import StatedEvaluation
from whence.runtime import check_place
from whence.settings import parse_options, with_assignments


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "compare", help="Compare models and saved predictions on the same queries, pair by pair."
    )(compare)


_SET = typer.Option([], "--set", help=set_help(StatedEvaluation))


def compare(
    data: str = typer.Argument(
        ...,
        help=(
            "Folder with database and queries, a CSV of query,positives, a folder of photos, or a "
            "published set's name."
        ),
    ),
    names: list[str] = typer.Argument(
        ...,
        autocompletion=completion.models,
        help="Models, or files of saved predictions (.csv, .txt).",
    ),
    option: list[str] = typer.Option(
        [], "--option", help="Option of the models as name=value. May be repeated."
    ),
    assignments: list[str] = _SET,
    protocol: str = typer.Option(
        None,
        "--protocol",
        autocompletion=completion.published_sets,
        help="Published set that the folder holds, as pitts30k.",
    ),
    layout: str = typer.Option(
        None,
        "--layout",
        autocompletion=completion.layouts,
        help="How the files lie, by name. Default: as it is recognised.",
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
    rerank: str = typer.Option(
        None,
        "--rerank",
        autocompletion=completion.scorers,
        help="Order each one's first candidates by this scorer or chain.",
    ),
    engine: str = typer.Option(
        "flat", help="Search engine, as whence index takes it; flat compares with every photo."
    ),
    report: str = typer.Option(
        None, "--report", help="Write a page with plots to this .html or .md file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Print recall@N of each, what they cost, and how they differ on the same queries, by the
    paired bootstrap."""
    from whence.evaluation.benchmarks import evaluate
    from whence.evaluation.comparison import compare as differences_of
    from whence.evaluation.comparison_report import (
        as_comparison_records,
        as_comparison_table,
        write_comparison,
    )
    from whence.evaluation.foreign import evaluate_predictions

    stated = with_assignments(StatedEvaluation(), assignments)
    options = stated.options(
        data, rerank, protocol=protocol, engine=engine, work=work, leave_one_out=leave_one_out
    )
    data_set = read_set(
        data,
        stated,
        protocol=protocol,
        layout=layout,
        positions=positions,
        leave_one_out=leave_one_out,
    )
    report_remarks(dict.fromkeys((*data_set.database.remarks, *data_set.queries.remarks)))
    if report is not None:
        check_place(report)
    results = []
    for number, name in enumerate(names):
        if Path(name).suffix in (".csv", PAIRS_SUFFIX):
            results.append(
                evaluate_predictions(read_ranked(name), data_set, name=name, options=options)
            )
            continue
        folder = options.work_folder and options.work_folder / f"{number}-{Path(name).stem}"
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        own = replace(options, work_folder=folder)
        progress = False if quiet or as_json else None
        results.append(
            evaluate(
                name,
                data_set,
                options=own,
                model_options=parse_options(option),
                show_progress=progress,
            )
        )
    found = differences_of(results, names=names)
    if report is not None:
        write_comparison(report, found)
    if as_json:
        print_json(as_comparison_records(found))
    else:
        show(as_comparison_table(found))
    return 0
