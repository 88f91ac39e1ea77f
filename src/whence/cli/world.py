"""`whence world`: rendered data with exact truth."""

from __future__ import annotations

from pathlib import Path

import typer

from whence.cli import mesh
from whence.cli.output import print_json, show
from whence.data.fields import as_text, printable
from whence.errors import BadOption


def register(app: typer.Typer) -> None:
    """Add the verb."""
    worlds = typer.Typer(
        help="Render data with exact truth: city (street photos), earth (photos from orbit), radar "
        "(pairs), clips (frames), logs, mesh (any city model).",
        no_args_is_help=True,
    )
    worlds.command("city", help="Render a city of street photos in a layout of the field.")(city)
    worlds.command(
        "earth",
        help=(
            "Render map tiles of four years and photos of them from orbit, laid out as EarthLoc's "
            "data."
        ),
    )(earth)
    worlds.command(
        "radar",
        help=(
            "Render pairs of a radar's and a camera's view with tie points, in SpaceNet 9's files."
        ),
    )(radar)
    worlds.command(
        "clips", help="Render short clips whose future is open, with what every pixel shows."
    )(clips)
    worlds.command(
        "logs", help="Make up logs of answers, to teach a small language model to look things up."
    )(logs)
    mesh.register(worlds)
    app.add_typer(worlds, name="world")


def city(
    out: str = typer.Argument(..., help="Folder for the photos; an interrupted run goes on there."),
    preset: str = typer.Option(
        "small", help="How large: tiny, small, quarter, district, borough, city or metropolis."
    ),
    seed: int = typer.Option(0, help="Another seed is another city."),
    layout: str = typer.Option(
        "folders",
        help="folders, benchmark, nordland, pairs, sf_xl, gsv_cities, msls, sequences, federated, "
        "labelled, mesh, megascenes, scannet, revisited, or positions (no pixels).",
    ),
    size: str = typer.Option("320x240", help="Width and height of the photos in pixels."),
    aliased_share: float = typer.Option(
        0.25, help="Share of streets whose buildings repeat those of another street."
    ),
    repeated_share: float = typer.Option(
        0.0,
        help=(
            "Share of building fronts that repeat the one beside them, so that neighbouring cells "
            "show the same."
        ),
    ),
    queries_aside: float = typer.Option(
        0.0,
        help=(
            "For --layout sequences: metres that drives of queries go to the left of their usual "
            "lane."
        ),
    ),
    truth: list[str] = typer.Option(
        [],
        "--truth",
        help="Pictures of the truth to write too: depth, labels, fronts. May be repeated.",
    ),
    num_photos: int = typer.Option(
        100_000, help="For --layout positions: how many virtual photos."
    ),
    sheet: str = typer.Option(None, "--sheet", help="Also draw a contact sheet to this PNG file."),
    mesh_file: str = typer.Option(
        None,
        "--mesh",
        help="Also write the first city as a textured mesh to this file, .glb or .obj.",
    ),
    workers: int = typer.Option(None, help="Processes. Default: one for each core."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Photos, cameras.csv (K, R, t of each) and world.json (what they follow from)."""
    from whence.worlds.capture import CaptureOptions
    from whence.worlds.city import WorldOptions, render_world, write_city_mesh
    from whence.worlds.sheets import contact_sheet

    progress = False if quiet or as_json else None
    if layout == "positions":
        return _positions(out, num_photos, seed, progress, as_json)
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise BadOption(f"--size {size!r}: write width and height as 320x240")
    capture = CaptureOptions(width=int(width), height=int(height), queries_aside_m=queries_aside)
    options = WorldOptions(
        capture=capture,
        aliased_share=aliased_share,
        repeated_share=repeated_share,
        truth=tuple(truth),
    )
    summary = render_world(
        out,
        preset=preset,
        seed=seed,
        layout=layout,
        options=options,
        show_progress=progress,
        num_workers=workers,
    )
    if sheet is not None:
        contact_sheet(sheet, preset=preset, seed=seed, options=options, layout=layout)
    if mesh_file is not None:
        write_city_mesh(mesh_file, preset=preset, seed=seed, options=options, layout=layout)
    if as_json:
        counts = {
            name: getattr(summary, name)
            for name in ("num_database", "num_queries", "num_unknown", "num_rendered", "seconds")
        }
        print_json(
            {
                "path": str(summary.path),
                **counts,
                "remarks": list(summary.remarks),
                "sheet": sheet,
                "mesh": mesh_file,
            }
        )
    else:
        show(
            f"{printable(str(summary.path))}: {summary.num_database} database photos, "
            f"{summary.num_queries} queries, {summary.num_unknown} queries outside the database; "
            f"{summary.num_rendered} rendered in {summary.seconds:.1f} s"
        )
        for remark in summary.remarks:
            show(as_text(remark))
        if sheet is not None:
            show(as_text(f"contact sheet: {sheet}"))
        if mesh_file is not None:
            show(as_text(f"mesh: {mesh_file}"))
    return 0


def earth(
    out: str = typer.Argument(
        ..., help="Folder for tiles and photos; an interrupted run goes on there."
    ),
    preset: str = typer.Option(
        "small", help="How large: tiny, small, missions (three kinds of camera), orbit or planet."
    ),
    seed: int = typer.Option(0, help="Another seed is another Earth."),
    tile_px: int = typer.Option(256, help="Pixels along a tile's side."),
    photo_px: int = typer.Option(
        256, help="Pixels along a photo's side; photos are squeezed to squares."
    ),
    sar: bool = typer.Option(
        False, "--sar", help="Also write what a radar sees of every tile of the last year."
    ),
    sheet: str = typer.Option(
        None, "--sheet", help="Also draw photos and the ground that they show to this PNG file."
    ),
    workers: int = typer.Option(None, help="Processes. Default: one for each core."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Tiles, photos, photos.csv (the truth of each) and world.json (what they follow from)."""
    from whence.worlds.earth.plan import EarthSpec, get_preset
    from whence.worlds.earth.world import earth_sheet, render_earth

    spec = EarthSpec(seed, get_preset(preset), tile_px, photo_px, sar)
    summary = render_earth(
        out, spec, show_progress=False if quiet or as_json else None, num_workers=workers
    )
    if sheet is not None:
        earth_sheet(sheet, spec)
    if as_json:
        counts = {
            name: getattr(summary, name)
            for name in ("num_tiles", "num_photos", "num_rendered", "seconds")
        }
        print_json({"path": str(summary.path), **counts, "sheet": sheet})
        return 0
    speed = summary.num_rendered / max(summary.seconds, 1e-9)
    show(
        f"{printable(str(summary.path))}: {summary.num_tiles} tiles, {summary.num_photos} photos; "
        f"{summary.num_rendered} rendered in {summary.seconds:.1f} s, {speed:.1f} a second"
    )
    if sheet is not None:
        show(as_text(f"contact sheet: {sheet}"))
    return 0


def radar(
    out: str = typer.Argument(..., help="Folder for the pairs; an interrupted run goes on there."),
    pairs: int = typer.Option(20, help="How many; more of them later keep those that are there."),
    side: int = typer.Option(512, help="Pixels along a side."),
    seed: int = typer.Option(0, help="Another seed is other ground."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Images, tie points and world.json (what they follow from)."""
    from whence.worlds.earth.radar import RadarSpec, render_radar

    summary = render_radar(
        out, RadarSpec(seed, pairs, side), show_progress=False if quiet or as_json else None
    )
    if as_json:
        counts = {name: getattr(summary, name) for name in ("num_pairs", "num_rendered", "seconds")}
        print_json({"path": str(summary.path), **counts})
    else:
        rendered = f"{summary.num_rendered} rendered in {summary.seconds:.1f} s"
        show(f"{printable(str(summary.path))}: {summary.num_pairs} pairs; {rendered}")
    return 0


def clips(
    out: str = typer.Argument(..., help="Folder for the clips; an interrupted run goes on there."),
    num: int = typer.Option(
        600, help="Clips to learn from; a tenth as many to choose by, a third to measure with."
    ),
    seed: int = typer.Option(0, help="Another seed is other clips."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """train.npz, val.npz and test.npz, and world.json (what they follow from)."""
    from whence.worlds.clips import ClipSpec, render_clips

    spec = ClipSpec(seed, num, max(1, num // 10), max(1, num // 3))
    summary = render_clips(out, spec, show_progress=False if quiet or as_json else None)
    if as_json:
        print_json(
            {
                "path": str(summary.path),
                "num_clips": summary.num_clips,
                "num_rendered": summary.num_rendered,
            }
        )
    else:
        show(
            as_text(
                f"{summary.path}: {summary.num_clips} clips; {summary.num_rendered} rendered in "
                f"{summary.seconds:.1f} s"
            )
        )
    return 0


def logs(
    out: str = typer.Argument(..., help="Folder for the logs."),
    num: int = typer.Option(
        2000, help="Logs to learn from; a twentieth as many to choose by, a tenth to measure with."
    ),
    seed: int = typer.Option(0, help="Another seed is other logs."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """train.jsonl, val.jsonl and test.jsonl, a log a line, and world.json (what they follow
    from)."""
    from whence.worlds.logs import LogSpec, write_logs

    summary = write_logs(out, LogSpec(seed, num, max(1, num // 20), max(1, num // 10)))
    if as_json:
        print_json({"path": str(summary.path), "num_logs": summary.num_logs})
    else:
        show(as_text(f"{summary.path}: {summary.num_logs} logs"))
    return 0


def _positions(out: str, num_photos: int, seed: int, progress: bool | None, as_json: bool) -> int:
    from whence.worlds.positions import write_positions

    positions = write_positions(Path(out), num_photos=num_photos, seed=seed, show_progress=progress)
    if as_json:
        print_json({"path": out, "num_photos": len(positions), "zone": positions.zone})
    else:
        show(as_text(f"{out}: {len(positions)} positions in UTM zone {positions.zone}"))
    return 0
