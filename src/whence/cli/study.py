"""`whence study`: measure a named grid, print what is there and what is missing."""

from __future__ import annotations

import typer

from whence.cli import completion
from whence.cli.output import print_json, show, show_table
from whence.errors import BadOption
from whence.settings import parse_options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "study",
        help=(
            "Measure a named grid of methods and settings; a study that was stopped goes on where "
            "it was."
        ),
    )(study)


def study(
    name: str = typer.Argument(
        None,
        autocompletion=completion.studies,
        help="Name of the study; without it, the studies and their options are listed.",
    ),
    out: str = typer.Option(
        None,
        "--out",
        help="Folder of the study: one file per measured run, and what they are made from.",
    ),
    option: list[str] = typer.Option(
        [], "--option", help="What the study takes, as data=set/ or model=NAME. May be repeated."
    ),
    only: list[str] = typer.Option(
        [], "--only", help="Measure runs whose names hold this (* and ? allowed). May be repeated."
    ),
    max_seconds: float = typer.Option(
        None, "--max-seconds", help="Begin no further run after so many seconds."
    ),
    no_run: bool = typer.Option(False, "--no-run", help="Measure nothing: print what is there."),
    markdown: str = typer.Option(
        None, "--markdown", help="Write the table as Markdown to this file."
    ),
    report: str = typer.Option(
        None, "--report", help="Write a page with table and plot to this HTML file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Prints the table; missing runs say why. The exit code is 1 where something was to be
    measured and nothing could be."""
    from whence.studies import get_study
    from whence.studies.frame import Budget, run_study
    from whence.studies.tables import as_markdown, as_page, as_records, as_table, write_text

    if name is None:
        return _list_studies(as_json)
    chosen = get_study(name)
    if out is None:
        raise BadOption("give the folder of the study with --out FOLDER")
    result = run_study(
        chosen,
        out=out,
        options=parse_options(option),
        budget=Budget(tuple(only), max_seconds, is_measuring=not no_run),
        show_progress=False if quiet or as_json else None,
        announce=(lambda text: None) if quiet or as_json else show,
    )
    if markdown is not None:
        write_text(markdown, as_markdown(result))
    if report is not None:
        write_text(report, as_page(result))
    if as_json:
        print_json(as_records(result))
    else:
        show(as_table(result))
    return (
        1 if result.runs and not no_run and not any(found.is_done for found in result.runs) else 0
    )


def _list_studies(as_json: bool) -> int:
    from whence.studies import get_study, list_studies

    found = [get_study(name) for name in list_studies()]
    if as_json:
        for one in found:
            options = [
                {"name": entry.name, "help": entry.help, "default": entry.default}
                for entry in one.options
            ]
            print_json({"name": one.name, "summary": one.summary, "options": options})
        return 0
    rows = []
    for one in found:
        rows.append((one.name, one.summary, ""))
        for entry in one.options:
            default = "needed" if entry.is_needed else str(entry.default)
            rows.append((f"  {entry.name}", entry.help, default))
    show_table(("study, option", "what it is", "default"), rows)
    return 0
