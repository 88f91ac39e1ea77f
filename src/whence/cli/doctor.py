"""`whence doctor`: what is installed, what works, and what a database looks like."""

from __future__ import annotations

import typer

from whence.cli.output import print_json, show
from whence.localize.condition import examine
from whence.web.tabular import Tabular


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", help="Check the installation, and a database.")(doctor)


def doctor(
    database: str = typer.Option(
        None, "--db", help="Database folder to look at. Default: photos.whence if it is there."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
) -> int:
    """Say what is installed and whether the main path works; exit 1 where something is broken."""
    findings = examine(database)
    if as_json:
        print_json(
            {
                "findings": [
                    {"what": what, "is_fine": is_fine, "detail": detail}
                    for what, is_fine, detail in findings
                ]
            }
        )
    else:
        marks = {True: "ok", False: "BROKEN", None: "-"}
        rows = tuple((marks[is_fine], what, detail) for what, is_fine, detail in findings)
        broken = frozenset(n for n, finding in enumerate(findings) if finding[1] is False)
        show(Tabular((), rows, num_names=3, missing_rows=broken).for_terminal())
    return 1 if any(is_fine is False for _, is_fine, _ in findings) else 0
