"""`whence evaluate --protocol registration`: pairs of images with tie points, by the metrics of the
SAR-optical benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.text import Text

from whence.cli.output import print_json, print_note, show, show_table
from whence.errors import BadOption
from whence.records import fill
from whence.runtime import progress

if TYPE_CHECKING:
    from whence.evaluation.tie_points import PairScore, RegistrationSummary


def evaluate_registration(
    folder: str, model: str, options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Print mean error and its failures by kind of pair; options are those of the protocol,
    `matcher`, and the matcher's own."""
    from whence.data.registration_sets import read_registration_set
    from whence.evaluation.tie_points import WITHIN_PX, evaluate_pairs
    from whence.localize.register import RegisterOptions
    from whence.registry import build

    known = {entry.name for entry in fields(RegisterOptions)}
    protocol = fill(
        RegisterOptions,
        {name: value for name, value in options.items() if name in known},
        what="option",
    )
    own = {
        name: value
        for name, value in options.items()
        if name not in known | {"matcher", "max_side_px"}
    }
    name, max_side_px = str(options.get("matcher", "orientation")), options.get("max_side_px", 0)
    if not isinstance(max_side_px, int) or max_side_px < 0:
        raise BadOption(f"max_side_px={max_side_px}: a number of pixels, 0 for the files' own")
    pairs = read_registration_set(folder)
    scores: list[PairScore] = []
    matcher = build("matcher", name, options=own)
    with progress("registering", total=len(pairs), show=False if as_json else None) as advance:
        for score in evaluate_pairs(pairs, matcher, protocol, max_side_px=max_side_px):
            scores.append(score)
            advance(1)
    group = f"{name}|{protocol.normalisation}|{'tiled' if protocol.tile_px else 'full'}"
    kinds = _by_kind(scores, group)
    if as_json:
        stated = {"matcher": name, "max_side_px": max_side_px, **asdict(protocol)}
        failed = [
            {"pair": one.name, "kind": one.kind, "status": one.status}
            for one in scores
            if not one.is_ok
        ]
        print_json(
            {
                "set": folder,
                **stated,
                "kinds": {kind: _record(one) for kind, one in kinds.items()},
                "failed": failed,
            }
        )
        return 0
    side = f"at most {max_side_px} px" if max_side_px else "whole"
    show(
        Text(
            f"{name}, {protocol.geometry}, {protocol.normalisation}, tiles {protocol.tile_px} - "
            f"{protocol.overlap_px}, {side}: errors in pixels as matched, failed pairs left out of "
            "the mean; @k is the share of points within k px, failed pairs missed"
        )
    )
    titles = ("pairs of", "pairs", "failed", "mean px", "95 %", "file px", "median px")
    rows = [_row(kind, one) for kind, one in kinds.items()]
    show_table((*titles, *(f"@{limit}" for limit in WITHIN_PX)), rows, num_names=1)
    for one in scores:
        if not one.is_ok:
            print_note(f"{one.name}: {one.status}")
    return 0


def _by_kind(scores: Sequence[PairScore], group: str) -> dict[str, RegistrationSummary]:
    from whence.evaluation.tie_points import summarise

    kinds = dict.fromkeys(one.kind for one in scores)
    found = {
        kind: summarise([one for one in scores if one.kind == kind], group=group) for kind in kinds
    }
    return found if len(found) == 1 else {**found, "all": summarise(scores, group=group)}


def _record(one: RegistrationSummary) -> dict[str, Any]:
    from whence.evaluation.tie_points import WITHIN_PX

    found = asdict(one)
    for name in ("within", "penalised"):
        found |= {
            f"{name}@{limit}": value
            for limit, value in zip(WITHIN_PX, found.pop(name), strict=True)
        }
    return found


def _row(kind: str, one: RegistrationSummary) -> tuple[str, ...]:
    low, high = one.intervals["mean"]
    means = (f"{one.mean_px:.2f}", f"{low:.2f} to {high:.2f}", f"{one.mean_native_px:.2f}")
    shares = (f"{100 * value:.1f}" for value in one.penalised)
    failed, median = f"{100 * one.failure_rate:.1f} %", f"{one.median_px:.2f}"
    return kind, str(one.num_pairs), failed, *means, median, *shares
