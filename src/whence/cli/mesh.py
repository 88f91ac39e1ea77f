"""`whence world mesh`: a database folder rendered from a textured mesh of a city."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from whence.cli.output import print_json, show
from whence.data.fields import printable
from whence.errors import BadOption

if TYPE_CHECKING:
    from whence.data.meshes import MeshPlace


def register(worlds: typer.Typer) -> None:
    """Add the verb's command."""
    worlds.command(
        "mesh",
        help="Render a database folder from a textured mesh of a city: GLB, glTF, OBJ and others.",
    )(mesh)


def mesh(
    model: str = typer.Argument(
        ...,
        metavar="CITY.glb",
        help="The mesh, with its textures; CITY.place.json says where it stands.",
    ),
    out: str = typer.Argument(..., help="Folder for the photos; an interrupted run goes on there."),
    every: str = typer.Option("20m", help="Metres between places."),
    streets: str = typer.Option(
        None, help="GeoJSON with LineStrings to go along. Default: a grid over all free ground."
    ),
    poses: str = typer.Option(
        None, help="A world's cameras.csv, whose database views are rendered, to align a model by."
    ),
    origin: str = typer.Option(
        None,
        help=(
            "Where the mesh's origin stands, LAT,LON or LAT,LON,HEIGHT, instead of the file "
            "beside it."
        ),
    ),
    heading: float = typer.Option(
        0.0, help="With --origin: where the mesh's y axis looks, degrees clockwise from true north."
    ),
    zone: str = typer.Option(
        "",
        help=(
            "UTM zone whose axes are the mesh's; without --origin its coordinates are those of "
            "the zone."
        ),
    ),
    up: str = typer.Option(
        "", help="The file's axis that points up, y or z. Default: y for glTF, z for others."
    ),
    camera_height: float = typer.Option(2.5, help="Metres of the camera above the ground."),
    headings: int = typer.Option(6, help="Photos of a place, all around."),
    field: float = typer.Option(66.0, help="Horizontal field of view in degrees."),
    pitch: float = typer.Option(4.0, help="Degrees that the camera looks up."),
    size: str = typer.Option("320x240", help="Width and height of the photos in pixels."),
    quality: str = typer.Option(
        "medium", help="Render quality: low (coarse textures), medium, or high (four rays a pixel)."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Photos in OUT/database, named by position and heading, ready for `whence index OUT/database`,
    and world.json."""
    from whence.data.meshes import read_place
    from whence.worlds.mesh_photos import MeshOptions, render_mesh

    step, sides = re.fullmatch(r"([0-9.]+) ?m?", every.strip()), re.fullmatch(r"(\d+)x(\d+)", size)
    if step is None or step[1].count(".") > 1:
        raise BadOption(f"--every {every!r}: write metres, as 20m")
    if sides is None:
        raise BadOption(f"--size {size!r}: write width and height as 320x240")
    options = MeshOptions(
        every_m=float(step[1]), height_m=camera_height, num_headings=headings, field_deg=field,
        pitch_deg=pitch, width=int(sides[1]), height=int(sides[2]), quality=quality,
    )  # fmt: skip
    place = read_place(model) if origin is None and not zone else _place(origin, heading, zone)
    found = render_mesh(
        model, out, place=place, options=options, streets=streets, poses=poses, up=up,
        show_progress=False if quiet or as_json else None,
    )  # fmt: skip
    if as_json:
        names = ("num_triangles", "num_places", "num_photos", "num_rendered", "seconds")
        print_json({"path": str(found.path), **{name: getattr(found, name) for name in names}})
    else:
        show(
            f"{printable(str(found.path))}: {found.num_photos} photos of {found.num_places} places "
            f"on {found.num_triangles:,} triangles; {found.num_rendered} rendered in "
            f"{found.seconds:.1f} s"
        )
    return 0


def _place(origin: str | None, heading: float, zone: str) -> MeshPlace:
    from whence.data.meshes import MeshPlace

    parts = [] if origin is None else origin.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [0.0]
    if len(numbers) not in (0, 2, 3):
        raise BadOption(f"--origin {origin!r}: write LAT,LON or LAT,LON,HEIGHT")
    lat, lon = (numbers[0], numbers[1]) if numbers else (None, None)
    return MeshPlace(lat, lon, numbers[2] if len(numbers) > 2 else 0.0, heading, zone)
