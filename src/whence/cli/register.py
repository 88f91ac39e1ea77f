"""`whence register`: one image or raster laid onto another, also one of another sensor."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.output import EXIT_UNKNOWN, print_json, print_note, show
from whence.runtime import check_place, progress
from whence.settings import parse_options

if TYPE_CHECKING:
    from whence.data.raster_windows import ArrayWindows, RasterWindows
    from whence.localize.register import Registration


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "register",
        help=(
            "Lay one image or raster onto another, of another sensor too, and write it as a "
            "GeoTIFF."
        ),
    )(register_images)


def register_images(
    moving: str = typer.Argument(..., help="Image or raster that is moved."),
    fixed: str = typer.Argument(..., help="Image or raster that it is moved onto."),
    out: str = typer.Option(
        None, "--out", help="Write MOVING on the pixels of FIXED to this cloud-optimised GeoTIFF."
    ),
    picture: str = typer.Option(
        None, "--picture", help="Write both laid over each other to this file (.png or .jpg)."
    ),
    points: str = typer.Option(
        None,
        "--points",
        help="Write points of MOVING with where they lie on FIXED to this CSV file.",
    ),
    matcher: str = typer.Option(
        "orientation",
        autocompletion=completion.matchers,
        help="What pairs points: orientation, rootsift-mnn, aliked-lightglue, ...",
    ),
    option: list[str] = typer.Option(
        [], "--option", help="Option of the matcher as name=value. May be repeated."
    ),
    turned: bool = typer.Option(
        False,
        "--turned",
        help=(
            "The images may be turned or scaled against each other, or show only a part of the "
            "same."
        ),
    ),
    geometry: str = typer.Option(
        "affine", help="What points of a tile must agree on: affine or homography."
    ),
    tile: int = typer.Option(512, help="Side of the tiles in pixels; 0 matches the images whole."),
    overlap: int = typer.Option(256, help="Pixels by which tiles overlap."),
    threshold: float = typer.Option(3.0, help="Largest residual of an inlier in pixels."),
    min_inliers: int = typer.Option(
        4, "--min-inliers", help="Inliers below which a tile does not count."
    ),
    normalisation: str = typer.Option(
        "percentile", help="Of the brightness: identity, percentile, zscore, clahe, ..."
    ),
    sar: str = typer.Option("moving", help="Which image a radar took: moving, fixed or none."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """The matrix leads from MOVING to FIXED in pixels of the files as they are, middles of pixels
    being whole numbers.

    Where the images agree no better than chance gives nothing is written, and the exit code is 3.
    """
    from whence.data.raster_windows import open_windows
    from whence.localize.register import RegisterOptions

    for file in (out, picture, points):
        if file is not None:
            check_place(file)
    if out is not None:
        from whence.data.rasters import open_rasterio

        open_rasterio()
    options = RegisterOptions(
        geometry=geometry,  # type: ignore[arg-type]
        tile_px=tile,
        overlap_px=overlap,
        threshold_px=threshold,
        min_inliers=min_inliers,
        normalisation=normalisation,
        sar=sar,  # type: ignore[arg-type]
    )
    with ExitStack() as stack:
        windows = [open_windows(path) for path in (moving, fixed)]
        for one in windows:
            stack.callback(one.close)
        with progress(
            "matching tiles", total=None, show=False if quiet or as_json else None
        ) as advance:
            registration = _found(
                windows, matcher, parse_options(option), options, is_turned=turned, advance=advance
            )
        record = {
            "moving": moving,
            "fixed": fixed,
            "status": registration.status,
            "reason": registration.reason,
            "matrix": None if registration.matrix is None else registration.matrix.tolist(),
            "inliers": registration.num_inliers,
            "rms": registration.rms_px,
            "tiles": len(registration.tiles),
        }
        if registration.matrix is not None:
            _write(registration, windows, out, picture, points)
    if as_json:
        print_json(record)
    elif registration.matrix is None:
        show(f"{registration.status}: {registration.reason}")
    else:
        assert registration.rms_px is not None, "with the matrix"
        show(
            f"ok: {registration.num_inliers} inliers in {len(registration.tiles)} tiles, off by "
            f"{registration.rms_px:.2f} pixels (root mean square)"
        )
        show("\n".join(" ".join(f"{value:14.8g}" for value in row) for row in registration.matrix))
    return 0 if registration.matrix is not None else EXIT_UNKNOWN


def _found(
    windows: list[Any],
    matcher: str,
    own: dict[str, Any],
    options: Any,
    *,
    is_turned: bool,
    advance: Any,
) -> Registration:
    from whence.errors import BadOption
    from whence.localize.register import Registration, match_tiles, register, whole_view
    from whence.registry import build

    if not is_turned:
        return register(
            match_tiles(
                windows[0],
                windows[1],
                build("matcher", matcher, options=own),
                options,
                advance=advance,
            ),
            options,
        )
    if "is_upright" in own:
        raise BadOption("with --turned how images are held is known: leave out --option is_upright")
    usual = {"is_upright": False} if matcher in ("orientation", "rootsift-mnn") else {}
    prior = whole_view(
        windows[0], windows[1], build("matcher", matcher, options={**own, **usual}), options
    )
    if prior is None:
        return Registration(
            "no_match", "seen as a whole the images agree no better than chance gives"
        )
    return register(
        match_tiles(
            windows[0],
            windows[1],
            build("matcher", matcher, options=own),
            options,
            prior=prior,
            advance=advance,
        ),
        options,
    )


def _write(
    registration: Registration,
    windows: list[ArrayWindows | RasterWindows],
    out: str | None,
    picture: str | None,
    points: str | None,
) -> None:
    from whence.data.pictures import write_picture
    from whence.data.raster_windows import RasterWindows
    from whence.localize.onto_grid import draw_registered, write_points, write_warped

    assert registration.matrix is not None, "written where there is one"
    moving, fixed = windows
    if out is not None:
        write_warped(out, moving, fixed, registration.matrix)
        if not (isinstance(fixed, RasterWindows) and fixed.is_placed):
            print_note(
                f"{out} has no place on Earth, because FIXED says none; it lies on the pixels of "
                "FIXED"
            )
    if picture is not None:
        write_picture(picture, draw_registered(moving, fixed, registration.matrix))
    if points is not None:
        write_points(points, registration.tiles, moving, fixed)
