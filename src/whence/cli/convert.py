"""`whence convert`: from the authors' file of weights to a safetensors file that carries its
card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from whence.cli import completion
from whence.cli.output import from_here, print_json, show
from whence.data.fields import as_size, as_text
from whence.errors import BadOption, MissingExtra

if TYPE_CHECKING:
    from whence.index.cells.classifier import CellClassifier


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "convert", help="Write a file of weights as safetensors with the model's card inside."
    )(convert)


def convert(
    files: list[str] = typer.Argument(
        ...,
        metavar="FILE...",
        help="The authors' file; for AnyLoc its vocabulary, then the backbone's.",
    ),
    name: str = typer.Option(
        None,
        "--as",
        autocompletion=completion.models,
        help="Model it holds. Default: the one that its keys, or its file name, tell.",
    ),
    out: str = typer.Option(
        None,
        help="File to write. Default: the model's place in the cache, where it is found by name.",
    ),
    cells_of: str = typer.Option(
        None,
        "--cells-of",
        help="Of Divide&Classify: the folder of the photos it was trained on, or the sorted list "
        "of their paths; writes its cells beside the weights, for whence index --cells.",
    ),
    pca_dim: int = typer.Option(
        None,
        "--pca-dim",
        help=(
            "Keep so many dimensions, by a PCA of --pca-photos, in the file: the same for every "
            "database."
        ),
    ),
    pca_photos: str = typer.Option(
        None,
        "--pca-photos",
        help="Folder of photos that the PCA is fitted on; FILE is then a model.",
    ),
    half: bool = typer.Option(
        False, "--half", help="Write float16 in place of float32: half the size, three digits."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """Read strictly, without running anything in the file, and write what the network needs under
    Whence's names."""
    from whence.models.zoo import CARDS, find_card

    if pca_dim is not None or pca_photos is not None:
        return _keep_pca(files, pca_dim, pca_photos, out, half=half, as_json=as_json)
    try:
        import torch

        from whence.models.checkpoints import networks as checkpoints
        from whence.models.checkpoints.files import read_weights
    except ImportError:
        raise MissingExtra("reading weights", "torch") from None
    from whence.models.checkpoints.http import sha256_of
    from whence.models.checkpoints.origins import converted_file

    if name is not None:
        card = find_card(name)
    else:
        fitting = checkpoints.propose_cards(read_weights(files[0]), tuple(CARDS.values()))
        if len(fitting) != 1:
            known = ", ".join(card.name for card in fitting)
            message = (
                f"it fits several: {known}; choose one with --as"
                if known
                else "no model of the zoo has such keys; name one with --as"
            )
            raise BadOption(f"{files[0]!r} does not tell which model it is: {message}")
        card = fitting[0]
    target = Path(out) if out is not None else converted_file(card)
    if out is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    from whence.index.cells.classifier import write_cells

    cells = (
        None
        if cells_of is None
        else _read_cells(files[0], cells_of, model=card.name if out is None else target.name)
    )
    checkpoints.convert(
        files, card=card, out=target, dtype=torch.float16 if half else torch.float32
    )
    beside = target.with_suffix(".cells.npz")
    if cells is not None:
        write_cells(beside, cells)
    if as_json:
        record = {"model": card.name, "file": str(target), "num_bytes": target.stat().st_size}
        message = {} if cells is None else {"cells": str(beside), "num_cells": len(cells)}
        print_json({**record, **message, "sha256": sha256_of(target), "card": asdict(card)})
        return 0
    show(as_text(f"{card.name}: {from_here(target)}, {as_size(target.stat().st_size)}"))
    if cells is not None:
        show(
            as_text(
                f"{len(cells):,} cells of {cells.cell_m:g} m: {from_here(beside)}, "
                f"{as_size(beside.stat().st_size)}"
            )
        )
    return 0


def _keep_pca(
    files: list[str],
    dim: int | None,
    photos: str | None,
    out: str | None,
    *,
    half: bool,
    as_json: bool,
) -> int:
    from whence.data.scan import scan_photos
    from whence.models.descriptor import load_model

    if dim is None or photos is None or out is None or len(files) != 1:
        raise BadOption(
            "a PCA is kept by: whence convert MODEL --pca-dim N --pca-photos FOLDER --out "
            "FILE.safetensors"
        )
    model = load_model(files[0])
    if model.descriptor.network is None:
        raise BadOption(
            f"{files[0]} is no network with weights of its own: give --option pca_dim={dim} to "
            "the database instead"
        )
    from whence.models.reduction import keep_pca

    found = scan_photos(photos)
    sources = [found.file(row) for row in range(len(found))]
    card = keep_pca(model, sources, dim=dim, out=out, dtype="float16" if half else "float32")
    size = Path(out).stat().st_size
    if as_json:
        print_json(
            {
                "model": card.name,
                "file": out,
                "num_bytes": size,
                "dim": card.dim,
                "of": model.dim,
                "card": asdict(card),
            }
        )
        return 0
    said = (
        f"{card.dim} of {model.dim} dimensions, {as_size(4 * card.dim)} a photo instead of "
        f"{as_size(4 * model.dim)}"
    )
    show(as_text(f"{card.name}: {from_here(Path(out))}, {as_size(size)}; {said}"))
    return 0


def _read_cells(file: str, photos: str, *, model: str) -> CellClassifier:
    """The cells of a published file. Raises as `import_published`."""
    from whence.data.placed_files import read_placed_files
    from whence.index.cells.published import import_published

    listing = Path(photos) if Path(photos).is_file() else None
    return import_published(
        file,
        read_placed_files(Path(photos) if listing is None else listing.parent, listing=listing),
        model=model,
    )
