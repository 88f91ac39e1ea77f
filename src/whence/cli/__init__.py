"""The command line. One file per verb; this one puts them together and turns errors into exit
codes.

Exit codes: 0 done, 1 error, 2 usage, 3 unknown place (a single query without an answer), 130
stopped by the user.
"""

from __future__ import annotations

import os
import shlex
from typing import Any

import typer
from typer.core import TyperGroup

from whence.cli import (
    calibrate,
    compare,
    convert,
    database,
    demo,
    doctor,
    evaluate,
    export,
    federate,
    index,
    journal,
    locate,
    match,
    models,
    register,
    serve,
    study,
    tag,
    tiles,
    tokens,
    train,
    undo,
    warp,
    world,
)
from whence.cli.machine import environment, taken_out
from whence.cli.output import print_error, print_note
from whence.cli.spellings import new_spelling
from whence.errors import EXIT_STOPPED, Stopped, WhenceError
from whence.runtime import set_threads
from whence.settings import load_settings


class _Interrupted(BaseException):
    """Carries the user's Ctrl-C out of typer, which would turn it into a bare exit code."""


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Interrupted from stop


app = typer.Typer(
    name="whence",
    cls=_Verbs,
    help="Where was this photo taken? Index a folder of photos, then ask.",
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
_VERBS = (
    *(
        index,
        database,
        locate,
        tag,
        undo,
        journal,
        match,
        register,
        warp,
        evaluate,
        compare,
        calibrate,
        models,
        convert,
        export,
        train,
        federate,
    ),
    *(study, serve, world, tiles, tokens, demo, doctor),
)
for _verb in _VERBS:
    _verb.register(app)


def _print_version(value: bool) -> None:
    if value:
        from whence import __version__

        typer.echo(f"whence {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and stop.",
    ),
    device: str = typer.Option(
        None,
        "--device",
        help="Run networks on cpu, cuda or auto; before a verb that runs models or behind it.",
    ),
    batch_size: int = typer.Option(
        None, "--batch-size", help="Photos that a network describes together; the same."
    ),
    workers: int = typer.Option(
        None, "--workers", help="Photos that are read at a time; the same."
    ),
) -> None:
    """Options before the verb; `machine` takes them out before they come here."""


def run(arguments: list[str]) -> int:
    """Run one command; gives the exit code."""
    arguments, settings = taken_out(arguments)
    with environment(settings):
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    # Threads that wait sleep rather than spin: on a busy machine spinning pools keep each other
    # from working.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (spelled := new_spelling(arguments)) != arguments:
        print_note(f"this is spelled differently now:  {shlex.join(['whence', *spelled])}")
        arguments = spelled
    try:
        if num_threads := load_settings().threads:
            set_threads(num_threads)
        code = app(args=arguments or ["--help"], prog_name="whence", standalone_mode=False)
        if code == EXIT_STOPPED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        print_error(
            f"{error.format_message()} (whence {' '.join(arguments[:1])} --help lists the options)"
        )
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt, _Interrupted) as stop:
        told = stop if isinstance(stop, Stopped) else stop.__cause__
        kept = (
            f"stopped: {told}"
            if isinstance(told, Stopped)
            else "stopped; what was committed stays, run the same command again to go on"
        )
        print_error(kept)
        return EXIT_STOPPED
    except WhenceError as error:
        print_error(str(error))
        return 1
