"""`whence train`: train a network, or a regressor on top of one, by a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from whence.cli import adapt, completion
from whence.cli.output import print_json, report_skipped, show, show_table
from whence.errors import BadOption, UnknownName

if TYPE_CHECKING:
    from whence.training.datasets import Dataset
    from whence.training.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "train", help="Train a network by a recipe; a run that was stopped goes on with --resume."
    )(train)


def train(
    recipe: str = typer.Argument(
        None,
        autocompletion=completion.recipes,
        help="Name of the recipe; without it, the recipes are listed.",
    ),
    dataset: list[str] = typer.Option(
        [],
        "--dataset",
        help=(
            "Folder of training photos with positions and headings. May be repeated, as "
            "NAME=FOLDER, for several branches."
        ),
    ),
    split: str = typer.Option(
        "", "--split", help="Split of it, for recipes that need database and queries."
    ),
    model: str = typer.Option(
        None,
        "--model",
        autocompletion=completion.models,
        help="Network that a regressor is trained for: a name or a safetensors file.",
    ),
    db: str = typer.Option(
        None, "--db", help="Database whose own photos its model learns, with the recipe adapt."
    ),
    undo: bool = typer.Option(
        False, "--undo", help="With --db: make the database what it was before it was adapted."
    ),
    val: str = typer.Option(
        None,
        "--val",
        help="Set by which the best weights are chosen: folders database and queries.",
    ),
    val_split: str = typer.Option("", "--val-split", help="Split of that set, for example val."),
    out: str = typer.Option(
        None, "--out", help="Folder of the run: weights, checkpoints, recipe and log."
    ),
    cache: str = typer.Option(
        None, "--cache", help="Folder for decoded photos. Default: beside the run."
    ),
    assignments: list[str] = typer.Option(
        [], "--set", help="Change a field, as optimizer.lr=1e-4. May be repeated."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the resolved recipe and what the data gives; train nothing."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint in --out."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Prints what the training came to: recall of the best weights, images per second, share of
    time spent waiting for data."""
    from whence.recipes import get_recipe
    from whence.training.recipe import override
    from whence.training.train import train as train_recipe

    if recipe is None:
        return _list_recipes(as_json)
    resolved = override(get_recipe(recipe), assignments)
    progress = False if quiet or as_json else None
    if db is not None or undo:
        if recipe != "adapt" or db is None or dataset or out is not None or dry_run:
            raise BadOption(
                "--db goes with the recipe adapt and takes no --dataset, --out or --dry-run; "
                "--undo goes with --db"
            )
        if undo:
            return adapt.undo(db, as_json=as_json, show_progress=progress)
        return adapt.adapt(
            db, get_recipe(recipe), assignments, as_json=as_json, show_progress=progress
        )
    if model is not None:
        resolved = _for_model(resolved, model)
    if not dataset and not dry_run:
        raise BadOption("give the training photos with --dataset FOLDER")
    if out is None and not dry_run:
        raise BadOption("give the folder of the run with --out FOLDER")
    datasets = _datasets(dataset, split, progress) if dataset else {}
    if dry_run:
        return _describe(resolved, datasets, as_json)
    done = train_recipe(
        resolved,
        datasets,
        out=out,
        validation=None if val is None else _datasets([val], val_split, progress)[""],
        pixels_folder=Path(cache) if cache is not None else None,
        is_resumed=resume,
        show_progress=progress,
    )
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return 0
    best = (
        ""
        if done.best_recall is None
        else f", best recall {100 * done.best_recall:.1f} % at step {done.best_step}"
    )
    show(
        f"{done.path}: {done.num_steps} steps{best}; {done.images_per_s:.0f} images a second, "
        f"{100 * done.waiting_share:.1f} % of the time waiting for photos, "
        f"{100 * done.augmenting_share:.0f} % augmenting them"
        f"{f', {100 * done.mining_share:.0f} % mining' if done.mining_share else ''}"
        f"{'; stopped early' if done.is_stopped_early else ''}"
    )
    return 0


def _for_model(recipe: Recipe, model: str) -> Recipe:
    from whence.training.recipe import override

    try:
        return override(recipe, [f"learner.model={json.dumps(model)}"])
    except UnknownName:
        raise BadOption(
            f"the recipe {recipe.name} trains a network of its own; --model is for recipes of "
            "regressors, as geowarp-small"
        ) from None


def _datasets(texts: Sequence[str], split: str, progress: bool | None) -> dict[str, Dataset]:
    """The data sets by name, from FOLDER or NAME=FOLDER. Raises `BadOption` where names are missing
    or stand twice."""
    from whence.training.datasets import Dataset

    found: dict[str, Dataset] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).exists() or not re.fullmatch(r"[\w.-]+", name):
            name, folder = "", text
        if name in found:
            raise BadOption(
                f"--dataset {text}: give each a name of its own, as --dataset NAME=FOLDER"
            )
        found[name] = Dataset(folder, split=split, show_progress=progress, report=report_skipped)
    return found


def _describe(recipe: Recipe, datasets: dict[str, Dataset], as_json: bool) -> int:
    from whence.training.datasets import choose

    record: dict[str, object] = {"recipe": json.loads(recipe.to_json())}
    if datasets:
        said = {
            name: options.sizes(
                choose(datasets, name=options.dataset, branch=name), seed=recipe.loop.seed
            )
            for options in recipe.branches
            for name in [options.name or options.kind]
        }
        first = next(iter(said.values()))
        record["data"] = first if all(one == first for one in said.values()) else said
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
            print_json(json.loads(found.to_json()))
        return 0
    rows = []
    for found in recipes:
        backbone = getattr(found.learner, "backbone", "") or "of --model"
        losses = ", ".join(branch.loss_name for branch in found.branches)
        rows.append((found.name, backbone, losses, found.summary))
    show_table(("recipe", "backbone", "loss", "what it is"), rows)
    return 0
