"""`whence tiles`: cut maps into tiles of a database."""

from __future__ import annotations

from pathlib import Path

import typer

from whence.cli.output import print_json, report_skipped, show
from whence.data.fields import as_text
from whence.errors import BadOption, UnreadableImage
from whence.types import SkippedPhoto


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "tiles",
        help=(
            "Cut maps (folders of a map server, GeoTIFF) into tiles for a database of photos from "
            "orbit."
        ),
    )(tiles)


def tiles(
    sources: list[str] = typer.Argument(
        ..., help="GeoTIFF files, or one folder of ZOOM/COLUMN/ROW.png."
    ),
    out: str = typer.Option(
        ..., "--out", help="Folder for the tiles; what is there already is kept."
    ),
    zoom: str = typer.Option(
        None,
        "--zoom",
        help=(
            "Zooms, as 9,10,11. Default: all of a folder; a raster's own, the one before and the "
            "next."
        ),
    ),
    year: int = typer.Option(2021, help="The year that names state."),
    tile_px: int = typer.Option(
        None, "--tile-px", help="Pixels along a tile's side. Default: as the map has them."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Tiles of 4 x 4 cells, overlapping by half, in EarthLoc's folders and names; a raster that
    cannot be read is skipped."""
    from whence.data.maps import CellFolder, CutTiles, cut_tiles
    from whence.data.rasters import RasterMap

    try:
        zooms = None if zoom is None else tuple(int(part) for part in zoom.split(","))
    except ValueError:
        raise BadOption(f"--zoom {zoom!r}: write whole numbers as 9,10,11") from None
    if tile_px is not None and not 16 <= tile_px <= 4096:
        raise BadOption(f"--tile-px {tile_px}: from 16 to 4096")
    ways = {"year": year, "side_px": tile_px, "show_progress": False if quiet or as_json else None}
    cut: list[CutTiles] = []
    skipped: list[SkippedPhoto] = []
    for source in sources:
        if Path(source).is_dir():
            folder = CellFolder(source)
            cut.append(cut_tiles(folder, out, zooms=zooms or folder.zooms(), **ways))  # type: ignore[arg-type]
            continue
        try:
            with RasterMap(source) as raster:
                own = raster.zoom()
                usual = (max(2, own - 1), own, own + 1)
                cut.append(cut_tiles(raster, out, zooms=zooms or usual, **ways))  # type: ignore[arg-type]
        except UnreadableImage as error:
            if len(sources) == 1:
                raise
            skipped.append(SkippedPhoto(error.path, error.reason))
    skipped += [entry for one in cut for entry in one.skipped]
    counts = {
        name: sum(getattr(one, name) for one in cut)
        for name in ("num_written", "num_known", "num_left_out")
    }
    if as_json:
        print_json({"path": out, **counts, "skipped": [entry._asdict() for entry in skipped]})
    else:
        report_skipped(skipped)
        show(
            as_text(
                f"{out}: {counts['num_written']} tiles written, {counts['num_known']} known "
                f"before, {counts['num_left_out']} left out because little of them is known"
            )
        )
    return 1 if skipped and not (counts["num_written"] or counts["num_known"]) else 0
