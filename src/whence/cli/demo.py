"""`whence demo`: from nothing to an answered question, on a small rendered city."""

from __future__ import annotations

from pathlib import Path

import typer

from whence.cli.output import as_size, print_json, show


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "demo", help="Render a small city, index it, ask where photos were taken, and print how often the answer is right."
    )(demo)


def demo(
    folder: str = typer.Argument("demo", help="Where the city and its database are made."),
    preset: str = typer.Option("small", help="Size of the city: tiny or small."),
    seed: int = typer.Option(0, help="Another seed is another city."),
    model: str = typer.Option("rootsift-vlad", help="Model that describes the photos."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """The whole way in one command; running it again goes on where it stopped."""
    from whence.data.formats import read_folders
    from whence.evaluation.benchmarks import EvaluationOptions, evaluate
    from whence.evaluation.report import as_records, as_table
    from whence.localize.localizer import Localizer
    from whence.settings import BuildOptions
    from whence.worlds.city import render_world

    root = Path(folder)
    progress = False if as_json else None
    if not as_json:
        show(f"1. rendering a city of seed {seed} into {root / 'city'} (rendered photos, not real ones)")
    render_world(root / "city", preset=preset, seed=seed, show_progress=progress)
    database, options = root / "database.whence", BuildOptions(model=model)
    if not as_json:
        show(f"2. whence index {root / 'city' / 'database'} --db {database}")
    localizer = Localizer.build(root / "city" / "database", path=database, options=options, show_progress=progress)
    data = read_folders(root / "city")
    query = data.queries.file(len(data.queries) // 2)
    position = localizer.locate(query)
    localizer.close()
    if not as_json:
        assert localizer.report is not None, "a localizer from build has its report"
        show(f"   {localizer.report.num_photos} photos, {as_size(localizer.report.size_bytes)}, {localizer.report.seconds:.1f} s")
        show(f"3. whence locate {query} --db {database}")
        point = position.point
        show(f"   {position.status}: {point.lat:.6f}, {point.lon:.6f}" if point else f"   {position.status}")
        show(f"   best match: {position.candidates[0].photo} (similarity {position.candidates[0].similarity:.3f})")
        show(f"4. whence evaluate {root / 'city'}")
    # The work folder is the demo's own: its database.whence is the one made above, so nothing is described twice.
    result = evaluate(model, data, options=EvaluationOptions(work_folder=root), show_progress=progress)
    if as_json:
        print_json({**as_records(result), "data": "rendered"})
    else:
        show(as_table(result))
        show("These are rendered photos: the numbers say that everything works, not how well it works on real ones.")
    return 0
