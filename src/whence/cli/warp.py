"""`whence warp`: two views of one photo, as GeoWarp learns from them without labels."""

from __future__ import annotations

from pathlib import Path

import typer

from whence.cli.output import print_json, show
from whence.errors import MissingExtra


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "warp",
        help="Draw two random views of a photo and what both show: what GeoWarp learns from.",
    )(warp)


def warp(
    photo: str = typer.Argument(..., help="The photo."),
    k: float = typer.Option(
        0.6, "--k", help="How far a view may differ from the whole photo: 0 not at all, up to 1."
    ),
    seed: int = typer.Option(0, help="Another number gives other views."),
    picture: str = typer.Option(
        None,
        help=(
            "File for the picture (.png or .jpg). Default: the photo's name with -views.png, here."
        ),
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON object with the corners instead of text."
    ),
) -> int:
    """Cut two trapezoids out of the photo, stretch them to whole images, and find the part both
    show. Corners are from -1 to 1."""
    from whence.data.images import load_resized
    from whence.data.pictures import draw_view_pair, write_picture

    try:
        import torch

        from whence.models.warp.pairs import make_view_pairs
    except ImportError:
        raise MissingExtra("whence warp", "torch") from None
    image = load_resized(Path(photo), long_side_px=1024)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    pair = make_view_pairs(pixels, k=k, generator=torch.Generator().manual_seed(seed))
    cut_a, cut_b, quad_a, quad_b, shared = (
        quads[0].numpy()
        for quads in (pair.cuts_a, pair.cuts_b, pair.quads_a, pair.quads_b, pair.shared)
    )
    target = picture or f"{Path(photo).stem}-views.png"
    write_picture(
        target, draw_view_pair(image, cuts=(cut_a, cut_b), quads=(quad_a, quad_b), shared=shared)
    )
    if as_json:
        corners = {
            "cut_a": cut_a,
            "cut_b": cut_b,
            "quad_a": quad_a,
            "quad_b": quad_b,
            "shared": shared,
        }
        print_json(
            {
                "photo": photo,
                "k": k,
                "seed": seed,
                "picture": target,
                **{name: c.tolist() for name, c in corners.items()},
            }
        )
    else:
        show(
            f"{target}: the photo with both views outlined and what they share tinted; the views; "
            "what they share, cut out of each"
        )
    return 0
