"""`whence calibrate`: fit how sure an answer may be, on the database's own photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import typer

from whence.cli import completion
from whence.cli.output import print_json, show, show_table
from whence.errors import BadOption
from whence.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "calibrate", help="Fit the confidence and the radius of answers on a database's own photos."
    )(calibrate)


def calibrate(
    database: str = typer.Option(
        None, "--db", help="Database folder. Default: photos.whence, or the setting `database`."
    ),
    scorer: str = typer.Option(
        "inliers", autocompletion=completion.scorers, help="Pair scorer the calibration is for."
    ),
    max_photos: int = typer.Option(300, help="Photos of the database that ask the others."),
    show_only: bool = typer.Option(False, "--show", help="Only show the calibration in force."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Fit and show, but keep nothing."),
    to: str = typer.Option(
        None, "--to", help="Write the calibration to this JSON file instead of into the database."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Compare the database's photos with each other: near ones are genuine, far ones impostors.
    Fit, show, keep."""
    from whence.evaluation.confidence import check_askable, fit_calibration, reliability
    from whence.evaluation.trials import GENUINE_M, trials_of_database
    from whence.index.store import Store
    from whence.localize.calibration_files import (
        find_calibration,
        key_of,
        store_calibration,
        write_calibration,
    )
    from whence.localize.localizer import Localizer
    from whence.localize.rerank_options import RerankOptions

    path = load_settings(flags={"database": database}).database
    if max_photos < 1:
        raise BadOption(f"at least one photo has to ask, not {max_photos}")
    options = RerankOptions(scorer)
    with Localizer.open(path) as localizer:
        key = key_of(localizer.model.card.card_id, localizer.prepared(options))
        if show_only:
            calibration = find_calibration(key, store=localizer.store)
            record = asdict(calibration)
            print_json(record) if as_json else _show(record)
            return 0
        check_askable(localizer)
        progress = False if quiet or as_json else None
        trials = trials_of_database(
            localizer, options=options, max_photos=max_photos, show_progress=progress
        )
        source = f"{len(trials.gaps_m)} questions of the database's own photos"
        calibration = replace(fit_calibration(trials, localizer, options=options), source=source)
    fit = reliability(trials.confidences(calibration.with_points), trials.gaps_m <= GENUINE_M)
    if to is not None:
        write_calibration(to, calibration)
    elif not dry_run:
        with Store.open(path, writable=True) as store:
            store_calibration(store, calibration)
    record = {**asdict(calibration), "num_trials": len(trials.gaps_m), "reliability": asdict(fit)}
    if as_json:
        print_json(record)
        return 0
    _show(record)
    bins = zip(
        fit.edges, fit.edges[1:], fit.counts, fit.confidences, fit.shares_right, strict=False
    )
    rows = [
        (f"{low:.1f}-{high:.1f}", str(count), f"{confidence:.3f}", f"{share:.3f}")
        for low, high, count, confidence, share in bins
        if count
    ]
    show_table(("confidence", "trials", "mean confidence", "share right"), rows, num_names=0)
    show(
        "the trials hold more impostors than the share of queries the probabilities are stated "
        "for, see `prior`"
    )
    return 0


def _show(record: Mapping[str, Any]) -> None:
    names = ("source", "num_genuine", "num_impostors", "with_points", "without_points")
    others = ("prior", "min_confidence", "radius_factor")
    facts = {name: record[name] for name in (*names, *others)} | record["key"]
    show_table((), [(name, str(value)) for name, value in facts.items()])
