"""`whence train`: train a network, or a regressor on top of one, by a recipe."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from whence.cli import completion
from whence.cli.output import print_json, report_skipped, show
from whence.errors import BadOption, MissingExtra

if TYPE_CHECKING:
    from whence.data.formats import EvaluationSet
    from whence.recipes import AnyRecipe


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train", help="Train a network by a recipe; a run that was stopped goes on with --resume.")(train)


def train(
    recipe: str = typer.Argument(
        None, autocompletion=completion.recipes, help="Name of the recipe; without it, the recipes are listed."
    ),
    dataset: str = typer.Option(None, "--dataset", help="Folder of training photos with positions and headings."),
    split: str = typer.Option("", "--split", help="Split of it, for recipes that need database and queries."),
    model: str = typer.Option(
        None,
        "--model",
        autocompletion=completion.models,
        help="Network that a regressor is trained for: a name or a safetensors file.",
    ),
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
    from whence.training.options.tuples import TupleRecipe
    from whence.training.options.warps import WarpRecipe

    if recipe is None:
        return _list_recipes(as_json)
    resolved = override(get_recipe(recipe), assignments)
    if model is not None:
        if not isinstance(resolved, WarpRecipe):
            raise BadOption(
                f"the recipe {recipe} trains a network of its own; --model is for recipes of regressors, as geowarp-small"
            )
        resolved = replace(resolved, model=model)
    if dataset is None and not dry_run:
        raise BadOption("give the training photos with --dataset FOLDER")
    if out is None and not dry_run:
        raise BadOption("give the folder of the run with --out FOLDER")
    progress = False if quiet or as_json else None
    if dry_run:
        return _describe(resolved, dataset, split, as_json, progress)
    try:
        import whence.training.run  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None

    assert dataset is not None
    assert out is not None
    given: dict[str, Any] = {
        "out": out,
        "validation": None if val is None else _read_set(val, val_split, progress),
        "pixels_folder": Path(cache) if cache is not None else Path(out).resolve().parent / "pixels",
        "is_resumed": resume,
        "show_progress": progress,
    }
    if isinstance(resolved, WarpRecipe):
        from whence.training.train import train

        done = train_warp(resolved, _read_set(dataset, split, progress), **given)
    elif isinstance(resolved, TupleRecipe):
        from whence.training.train import train

        done = train_tuples(resolved, _read_set(dataset, split, progress), **given)
    else:
        from whence.data.scan import scan_photos
        from whence.training.train import train as train_places
        from whence.training.branches.places import make_places

        photos = scan_photos(dataset, show_progress=progress)
        report_skipped(photos.skipped)
        done = train_places(resolved, make_places(photos, options=resolved.places), **given)
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return 0
    best = "" if done.best_recall is None else f", best recall {100 * done.best_recall:.1f} % at step {done.best_step}"
    show(
        f"{done.path}: {done.num_steps} steps{best}; {done.images_per_s:.0f} images a second, "
        f"{100 * done.waiting_share:.1f} % of the time waiting for photos, {100 * done.augmenting_share:.0f} % augmenting them"
        f"{f', {100 * done.mining_share:.0f} % mining' if done.mining_share else ''}"
        f"{'; stopped early' if done.is_stopped_early else ''}"
    )
    return 0


def _read_set(folder: str, split: str, progress: bool | None) -> EvaluationSet:
    from whence.data.scan import ReadOptions
    from whence.evaluation.published import open_set

    found = open_set(folder, split=split, options=ReadOptions(show_progress=progress))
    report_skipped((*found.database.skipped, *found.queries.skipped))
    return found


def _describe(resolved: AnyRecipe, dataset: str | None, split: str, as_json: bool, progress: bool | None) -> int:
    import json

    from whence.training.recipe import Recipe

    record = {"recipe": json.loads(resolved.to_json())}
    if dataset is not None and isinstance(resolved, Recipe):
        from whence.data.scan import scan_photos
        from whence.training.branches.places import PlaceBatches
        from whence.training.branches.places import make_places

        places = make_places(scan_photos(dataset, show_progress=progress), options=resolved.places)
        batches = PlaceBatches(places, options=resolved.batches, seed=resolved.loop.seed)
        record["data"] = {"num_photos": len(places.photos), "num_places": len(places), "num_batches": batches.num_batches(0)}
    elif dataset is not None:
        found = _read_set(dataset, split, progress)
        record["data"] = {"num_database": len(found.database), "num_queries": len(found.queries)}
    if as_json:
        print_json(record)
    else:
        show(Text(json.dumps(record, indent=1)))
    return 0


def _list_recipes(as_json: bool) -> int:
    from whence.recipes import get_recipe, list_recipes
    from whence.training.options.warps import WarpRecipe

    recipes = [get_recipe(name) for name in list_recipes()]
    if as_json:
        for found in recipes:
            print_json(asdict(found))
        return 0
    table = Table(show_edge=False, pad_edge=False)
    for title in ("recipe", "backbone", "loss", "what it is"):
        table.add_column(title, overflow="fold")
    for found in recipes:
        of_network = ("of --model", "geowarp") if isinstance(found, WarpRecipe) else (found.backbone, found.loss.name)
        table.add_row(*map(Text, (found.name, *of_network, found.summary)))
    show(table)
    return 0
