"""`whence export`: a network as an ONNX file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import typer

from whence.cli import completion
from whence.cli.output import print_json, show
from whence.data.fields import as_size, as_text
from whence.errors import BadOption, MissingExtra, NoPhotos, UnreadableImage

if TYPE_CHECKING:
    from whence.models.descriptor import DescriptorModel


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export", help="Write a network as an ONNX file, checked against torch.")(export)


def export(
    model: str = typer.Argument(
        ..., autocompletion=completion.models, help="Model to export; `whence models` lists them."
    ),
    onnx: str = typer.Option(..., "--onnx", help="File to write."),
    int8: bool = typer.Option(False, "--int8", help="Compute in int8; for convolutional networks."),
    bf16: bool = typer.Option(False, "--bf16", help="Keep the weights in bfloat16: half the file."),
    calibration: str = typer.Option(
        None,
        "--calibration",
        help="Folder of photos, like those to be described, that --int8 takes its ranges from.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """Write the file and print how near its descriptors are to the network's own; below a cosine of
    0.99 nothing is written."""
    from whence.models.descriptor import load_model

    if int8 and bf16:
        raise BadOption("--int8 and --bf16 exclude each other")
    if (calibration is not None) != int8:
        raise BadOption(
            "--int8 needs photos to take its ranges from, and only --int8 does: --int8 "
            "--calibration FOLDER"
        )
    loaded = load_model(model)
    if loaded.descriptor.network is None:
        raise BadOption(f"{model} is not a network: there is nothing to export")
    try:
        from whence.models.engines.export import export_onnx
    except ImportError:
        raise MissingExtra("exporting a network", "torch") from None
    report = export_onnx(
        loaded.descriptor.network,
        onnx,
        steps=loaded.card.preprocessing,
        precision="int8" if int8 else "bf16" if bf16 else "float32",
        card=loaded.card,
        calibration=[] if calibration is None else _calibration_images(loaded, calibration),
    )
    if as_json:
        parities = [parity._asdict() for parity in report.parities]
        print_json({**asdict(report), "model": model, "parities": parities})
        return 0
    sizes = (
        "any height and width"
        if report.is_size_free
        else "{} x {} pixels only".format(*report.parities[0].size_px)
    )
    show(
        as_text(
            f"{report.path}: {model} in {report.precision}, {as_size(report.size_bytes)}, batches "
            f"of any size, {sizes}"
        )
    )
    for (height, width), cosine, difference in report.parities:
        show(
            f"at {height} x {width}: cosine to torch at least {cosine:.6f}, largest difference "
            f"{difference:.2e}"
        )
    return 0


def _calibration_images(model: DescriptorModel, folder: str) -> list[np.ndarray]:
    """A few dozen of the folder's photos, spread over it, as the network takes them. Raises
    `NoPhotos`."""
    from whence.data.scan import scan_photos
    from whence.models.engines.export import NUM_CALIBRATION_IMAGES
    from whence.runtime import map_threads

    photos = scan_photos(folder)
    rows = np.unique(
        np.linspace(0, len(photos) - 1, min(len(photos), NUM_CALIBRATION_IMAGES))
        .round()
        .astype(int)
    )

    def read(row: int) -> np.ndarray | None:
        try:
            return model.read(photos.file(int(row)))
        except UnreadableImage:
            return None

    images = [image for image in map_threads(read, rows) if image is not None]
    if not images:
        raise NoPhotos(f"no readable photo under {folder!r} to calibrate with")
    return images
