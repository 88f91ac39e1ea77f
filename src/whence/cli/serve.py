"""`whence serve`: an endpoint and a page over databases."""

from __future__ import annotations

from pathlib import Path

import typer

from whence.cli.output import print_note
from whence.errors import MissingExtra
from whence.runtime import num_cores
from whence.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve", help="Serve databases: an endpoint for programs and a page for people.")(
        serve
    )


def serve(
    database: list[str] = typer.Option(
        [],
        "--db",
        help=(
            "Database folder, or NAME=FOLDER. May be repeated. Default: photos.whence, or the "
            "setting `database`."
        ),
    ),
    host: str = typer.Option(
        "127.0.0.1", help="Address to serve at. Others than this machine's own need --token-file."
    ),
    port: int = typer.Option(8600, help="Port; 0 takes a free one."),
    name: list[str] = typer.Option(
        [], "--name", help="Another name that requests may call this host by. May be repeated."
    ),
    token_file: str = typer.Option(
        None,
        "--token-file",
        help="File of tokens, one a line: who has one may write, and read from elsewhere.",
    ),
    read_only: bool = typer.Option(
        False, "--read-only", help="Take no photos, begin no jobs, write nothing."
    ),
    folder: list[str] = typer.Option(
        [],
        "--folder",
        help="NAME=PATH of a folder of photos that jobs may look at. May be repeated.",
    ),
    state: str = typer.Option(
        None,
        "--state",
        help="Folder for jobs and added photos. Default: beside the first database.",
    ),
    workers: int = typer.Option(
        None, "--workers", help="Processes that answer. Default: one for each two cores."
    ),
    max_upload: str = typer.Option(
        "25M", "--max-upload", help="Bytes of one request with photos, as 25M."
    ),
    max_video: str = typer.Option("1G", "--max-video", help="Bytes of one uploaded video."),
    queue: int = typer.Option(
        32, "--queue", help="Requests that may wait for each worker; more are told to come again."
    ),
    seconds: float = typer.Option(60.0, "--seconds", help="Seconds a request may take."),
    tiles: str = typer.Option(
        None,
        "--tiles",
        help="Address of map tiles for the page, with {z}, {x} and {y}. Default: none is asked.",
    ),
    log_places: bool = typer.Option(
        False, "--log-places", help="Write the places of answers into the log."
    ),
    open_page: bool = typer.Option(False, "--open", help="Open the page in a browser."),
) -> int:
    """Serve until Ctrl-C. Reading is open on this machine; every writing needs a token, which the
    page has its own of."""
    try:
        from whence.server import running
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in (
            "fastapi",
            "starlette",
            "uvicorn",
            "prometheus_client",
            "multipart",
            "python_multipart",
        ):
            raise
        raise MissingExtra("whence serve", "server") from None
    from whence.server.terms import (
        Limits,
        Terms,
        named_databases,
        named_folders,
        new_token,
        parse_size,
        read_tokens,
    )

    databases = named_databases(database or [load_settings().database])
    first = Path(next(iter(databases.values())))
    terms = Terms(
        databases=databases,
        state=str(
            Path(state).absolute()
            if state
            else first.with_name(f"{first.name.removesuffix('.whence')}.service.whence")
        ),
        folders=named_folders(folder),
        host=host,
        port=port,
        names=tuple(name),
        tokens=() if token_file is None else read_tokens(token_file),
        page_token=new_token(),
        is_read_only=read_only,
        logs_places=log_places,
        tiles=tiles or "",
        workers=max(1, num_cores() // 2) if workers is None else workers,
        limits=Limits(
            parse_size(max_upload), parse_size(max_video), queue=queue, request_seconds=seconds
        ),
    )
    _check_databases(databases)

    def ready(address: str) -> None:
        print_note(f"serving {', '.join(databases)} at {address}  (Ctrl-C ends it)")
        if open_page:
            import threading
            import webbrowser

            threading.Timer(1.5, webbrowser.open, [address]).start()

    running.serve(terms, on_ready=ready)
    return 0


def _check_databases(databases: dict[str, str]) -> None:
    """Raise now what would make every request fail."""
    from whence.index.store import Store

    for path in databases.values():
        Store.open(path).close()
