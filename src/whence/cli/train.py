"""`whence train`: train a network by a recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from whence.cli.output import print_json, report_skipped, show
from whence.errors import BadOption, MissingExtra

if TYPE_CHECKING:
    from whence.training.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train", help="Train a network by a recipe; a run that was stopped goes on with --resume.")(train)


def train(
    recipe: str = typer.Argument(None, help="Name of the recipe; without it, the recipes are listed."),
    dataset: str = typer.Option(None, "--dataset", help="Folder of training photos with positions and headings."),
    val: str = typer.Option(None, "--val", help="Set by which the best weights are chosen: folders database and queries."),
    val_split: str = typer.Option("", "--val-split", help="Split of that set, for example val."),
    out: str = typer.Option(None, "--out", help="Folder of the run: weights, checkpoints, recipe and log."),
    cache: str = typer.Option(None, "--cache", help="Folder for decoded photos. Default: beside the run."),
    assignments: list[str] = typer.Option([], "--set", help="Change a field, as optimizer.lr=1e-4. May be repeated."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the resolved recipe and what the data gives; train nothing."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint in --out."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Prints what the training came to: recall of the best weights, images per second, share of time spent waiting for data."""
    from whence.recipes import get_recipe
    from whence.training.recipe import override

    if recipe is None:
        return _list_recipes(as_json)
    resolved = override(get_recipe(recipe), assignments)
    if dataset is None and not dry_run:
        raise BadOption("give the training photos with --dataset FOLDER")
    if out is None and not dry_run:
        raise BadOption("give the folder of the run with --out FOLDER")
    progress = False if quiet or as_json else None
    if dry_run:
        return _describe(resolved, dataset, as_json, progress)
    try:
        from whence.training.loop import train as run
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    from whence.data.formats import ReadOptions, read_folders
    from whence.data.scan import scan_photos
    from whence.training.places import make_places

    assert dataset is not None
    assert out is not None
    photos = scan_photos(dataset, show_progress=progress)
    report_skipped(photos.skipped)
    validation = None if val is None else read_folders(val, split=val_split, options=ReadOptions(show_progress=progress))
    done = run(
        resolved,
        make_places(photos, options=resolved.places),
        out=out,
        validation=validation,
        pixels_folder=Path(cache) if cache is not None else Path(out).resolve().parent / "pixels",
        is_resumed=resume,
        show_progress=progress,
    )
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return 0
    best = "" if done.best_recall is None else f", best recall {100 * done.best_recall:.1f} % at step {done.best_step}"
    show(
        f"{done.path}: {done.num_steps} steps{best}; {done.images_per_s:.0f} images a second, "
        f"{100 * done.waiting_share:.1f} % of the time waiting for photos, {100 * done.augmenting_share:.0f} % augmenting them"
        f"{'; stopped early' if done.is_stopped_early else ''}"
    )
    return 0


def _describe(resolved: Recipe, dataset: str | None, as_json: bool, progress: bool | None) -> int:
    import json

    record = {"recipe": json.loads(resolved.to_json())}
    if dataset is not None:
        from whence.data.scan import scan_photos
        from whence.training.batches import PlaceBatches
        from whence.training.places import make_places

        places = make_places(scan_photos(dataset, show_progress=progress), options=resolved.places)
        batches = PlaceBatches(places, options=resolved.batches, seed=resolved.loop.seed)
        record["data"] = {"num_photos": len(places.photos), "num_places": len(places), "num_batches": batches.num_batches(0)}
    if as_json:
        print_json(record)
    else:
        show(Text(json.dumps(record, indent=1)))
    return 0


def _list_recipes(as_json: bool) -> int:
    from whence.recipes import get_recipe, list_recipes

    recipes = [get_recipe(name) for name in list_recipes()]
    if as_json:
        for found in recipes:
            print_json(asdict(found))
        return 0
    table = Table(show_edge=False, pad_edge=False)
    for title in ("recipe", "backbone", "loss", "what it is"):
        table.add_column(title, overflow="fold")
    for found in recipes:
        table.add_row(*map(Text, (found.name, found.backbone, found.loss.name, found.summary)))
    show(table)
    return 0
