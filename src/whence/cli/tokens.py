"""`whence index --tokens` and `whence tokens`: drives as one token a frame, and what changed
between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from whence.cli.output import print_json, print_note, show
from whence.data.fields import as_size, as_text

if TYPE_CHECKING:
    from whence.localize.drive_tokens import DriveTokens

MODEL = typer.Option(
    ..., "--model", help="What a training of tokens wrote, the same as for whence index --tokens."
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="Drives that a database keeps as one token a frame."
    )
    group.command("show", help="Say what a drive's tokens and key frames take.")(show_tokens)
    group.command(
        "changes",
        help="Draw what changed between two drives as a heat map, north up, to an SVG file.",
    )(changes)
    app.add_typer(group, name="tokens")


class Thinned:
    """A drive whose key frames alone are described; nothing where no tokens are asked for."""

    def __init__(
        self, sources: Sequence[str], model_file: str | None, positions: str | None
    ) -> None:
        """Reads the frames. Raises as `read_drive`."""
        self.sources = list(sources)
        self.drive: DriveTokens | None = None
        if model_file is not None:
            from whence.localize.drive_tokens import read_drive

            self.drive = read_drive(self.sources, model_file, positions=positions)
            self.sources = list(self.drive.key_frames)

    def keep(self, path: str, *, is_quiet: bool) -> None:
        """Keeps the tokens in the database that was made of the sources, and says what they
        take."""
        if self.drive is not None:
            from whence.localize.drive_tokens import store_drive

            store_drive(path, self.drive)
            if not is_quiet:
                print_note(_said(path, self.drive))


def _said(path: str, drive: DriveTokens) -> str:
    from whence.index.store import Store

    with Store.open(path) as store:
        each = store.dim * store.dtype.itemsize
    num, keys = len(drive.frames), len(drive.key_frames)
    return (
        f"{num} frames: {as_size(drive.num_bytes)} of tokens ({drive.num_bytes // num} bytes a "
        f"frame), {keys} key frames with {as_size(keys * each)} of descriptors; all frames' would "
        f"take {as_size(num * each)}"
    )


def show_tokens(
    database: str = typer.Argument(..., help="Database that whence index --tokens made."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """Frames, key frames, bytes and errors."""
    from whence.localize.drive_tokens import stored_drive

    drive = stored_drive(database)
    if as_json:
        record = {
            "frames": len(drive.frames),
            "key_frames": len(drive.key_frames),
            "token_bytes": drive.num_bytes,
        }
        print_json({**record, "model": drive.model, "mean_error": float(drive.errors.mean())})
    else:
        show(as_text(_said(database, drive)))
    return 0


def changes(
    first: str = typer.Argument(..., help="Database of the earlier drive, made with --tokens."),
    second: str = typer.Argument(..., help="Database of the later drive, made with --tokens."),
    out: str = typer.Argument(..., help="SVG file to write."),
    model: str = MODEL,
    within: float = typer.Option(10.0, "--within", help="Metres between frames that are compared."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """The map, and the frames that changed most."""
    from whence.localize.drive_tokens import changes_between
    from whence.web.heat import draw_heat, write_heat

    found = changes_between(first, second, model, within_m=within)
    caption = f"{Path(second).name} against {Path(first).name}: what is another"
    write_heat(
        out,
        draw_heat(
            found.points,
            found.values,
            caption=caption,
            titles=[Path(name).name for name in found.frames],
        ),
    )
    order = found.values.argsort()[::-1][:5]
    if as_json:
        most = [{"photo": found.frames[row], "change": float(found.values[row])} for row in order]
        print_json({"frames": len(found.values), "out": out, "most": most})
        return 0
    show(as_text(f"{out}: {len(found.values)} frames compared; changed most:"))
    for row in order:
        show(as_text(f"{found.values[row]:.3f} {found.frames[row]}"))
    return 0
