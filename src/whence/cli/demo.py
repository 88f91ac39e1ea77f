"""`whence demo`: from nothing to an answered question, on a small rendered city."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.output import print_json, show, show_table
from whence.data.fields import as_size
from whence.errors import DISTRIBUTION
from whence.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from whence.data.formats import EvaluationSet

NETWORK = "whence-resnet18conv4-gem-256"
"""The model that re-ranking is shown with, where torch is installed."""
NUM_RERANKED = 5
WARPING = "geowarp-resnet18conv4"
RANKINGS = {"no re-ranking": None, WARPING: "GeoWarp", "inliers": "SIFT and MAGSAC"}
"""Scorers by name, and what they are called."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "demo",
        help=(
            "Render a small city, index it, ask where photos were taken, and print how often the "
            "answer is right."
        ),
    )(demo)


def demo(
    folder: str = typer.Argument("demo", help="Where the city and its database are made."),
    preset: str = typer.Option("small", help="Size of the city: tiny or small."),
    seed: int = typer.Option(0, help="Another seed is another city."),
    model: str = typer.Option(
        DEFAULT_MODEL, autocompletion=completion.models, help="Model that describes the photos."
    ),
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
        show(
            f"1. rendering a city of seed {seed} into {root / 'city'} (rendered photos, not real "
            "ones)"
        )
    render_world(root / "city", preset=preset, seed=seed, show_progress=progress)
    database, options = root / "database.whence", BuildOptions(model=model)
    if not as_json:
        show(f"2. whence index {root / 'city' / 'database'} --db {database}")
    localizer = Localizer.build(
        root / "city" / "database", path=database, options=options, show_progress=progress
    )
    data = read_folders(root / "city")
    query = data.queries.file(len(data.queries) // 2)
    position = localizer.locate(query)
    localizer.close()
    if not as_json:
        assert localizer.report is not None, "a localizer from build has its report"
        show(
            f"   {localizer.report.num_photos} photos, {as_size(localizer.report.size_bytes)}, "
            f"{localizer.report.seconds:.1f} s"
        )
        show(f"3. whence locate {query} --db {database}")
        point = position.point
        show(
            f"   {position.status}: {point.lat:.6f}, {point.lon:.6f}"
            if point
            else f"   {position.status}"
        )
        show(
            f"   best match: {position.candidates[0].photo} (similarity "
            f"{position.candidates[0].similarity:.3f})"
        )
        show(f"4. whence evaluate {root / 'city'}")
    # The work folder is the demo's own: its database.whence is the one made above, so nothing is
    # described twice.
    result = evaluate(
        model, data, options=EvaluationOptions(work_folder=root), show_progress=progress
    )
    if not as_json:
        show(as_table(result))
    compared = _compare(data, root, model, is_quiet=as_json)
    if as_json:
        print_json({**as_records(result), "data": "rendered", "rerank": compared})
    else:
        show(
            "These are rendered photos: the numbers say that everything works, not how well it "
            "works on real ones."
        )
    return 0


def _compare(data: EvaluationSet, root: Path, model: str, *, is_quiet: bool) -> dict[str, Any]:
    """Recall without re-ranking, with GeoWarp and with inliers, on the same candidates; without
    torch, with inliers alone."""
    from whence.registry import get_card
    from whence.studies.shortlists import Shortlists

    # A module set to None is one that the program must not import.
    has_torch = (
        sys.modules.get("torch", "") is not None and importlib.util.find_spec("torch") is not None
    )
    model = NETWORK if has_torch else model
    names = [name for name in RANKINGS if has_torch or name != WARPING]
    if not is_quiet:
        show(
            f"5. candidates found by {model}, the first {NUM_RERANKED} put in order by: "
            f"{', '.join(names)}"
        )
    lists = Shortlists(data, model=model, work=root, show_progress=False if is_quiet else None)
    recalls = {}
    for name in names:
        order = (
            lists.found
            if name == "no re-ranking"
            else lists.reranked(name, {}, num_candidates=NUM_RERANKED).predictions
        )
        recalls[name] = {measure: value.value for measure, value in lists.recalls(order).items()}
    rows = [
        (RANKINGS[name] or name, *(f"{100 * value:.1f} %" for value in found.values()))
        for name, found in recalls.items()
    ]
    used = {
        name: get_card(name, kind=kind).weights
        for name, kind in ((model, "model"), (WARPING, "scorer"))
        if has_torch
    }
    if not is_quiet:
        show_table(("put in order by", *recalls[names[0]]), rows, num_names=1)
        if has_torch:
            show(
                f"   weights: {' and '.join(used)}, which come with Whence, trained on rendered "
                "cities of other seeds"
            )
        else:
            show(f'   the network and GeoWarp need torch: pip install "{DISTRIBUTION}[torch]"')
    return {"model": model, "num_candidates": NUM_RERANKED, "recalls": recalls, "weights": used}
