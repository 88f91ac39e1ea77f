"""`whence undo`: take back what a verb wrote beside photos."""

from __future__ import annotations

import typer

from whence.cli.output import print_json, print_note, show
from whence.data.fields import as_text
from whence.data.undo import undo_files


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("undo", help="Remove what whence tag --write wrote, where it is unchanged since.")(
        undo
    )


def undo(
    undo_file: str = typer.Argument(
        ..., metavar="FILE", help="The undo file that the writing named: whence-undo-....json."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Remove what was written. Exit code 1 where something was changed since and is kept."""
    undone = undo_files(undo_file)
    if as_json:
        kept = [{"path": entry.path, "reason": entry.reason} for entry in undone.refusals]
        print_json(
            {
                "removed": [str(path) for path in undone.removed],
                "gone": [str(path) for path in undone.missing],
                "kept": kept,
            }
        )
    else:
        gone = f", {len(undone.missing)} were gone already" if undone.missing else ""
        show(as_text(f"{len(undone.removed)} files removed{gone}"))
        for entry in undone.refusals:
            print_note(f"kept {entry.path}: {entry.reason}")
    return 1 if undone.refusals else 0
