"""From a request's options and photos to records of answers: the same stages and options as
`whence locate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whence.data.images import content_hash
from whence.errors import BadOption, UnreadableImage
from whence.localize.localizer import LocateOptions
from whence.localize.questions import locate_options
from whence.localize.retrieve import Around
from whence.localize.unknown import AUTO
from whence.models.asking import parse_views
from whence.registry import SCORERS
from whence.server.open_databases import OpenDatabase
from whence.settings import OTHERWISE, is_chain, parse_stages
from whence.types import GeoPoint, Position

MAX_CANDIDATES = 200
MAX_COMPARED = 100
OPTION_NAMES = (
    "k",
    "near",
    "within",
    "rerank",
    "rerank_candidates",
    "verify",
    "min_confidence",
    "when_unknown",
    "query_mode",
)


def options_of(values: Mapping[str, Any]) -> LocateOptions:
    """The options of a request. Raises `BadOption` and `UnknownName`; scorers go by their own
    names, never by a file's."""
    rerank, when_unknown = values.get("rerank"), values.get("when_unknown") or AUTO
    compared = int(values.get("rerank_candidates") or 20)
    scorers = (
        []
        if rerank is None
        else [(one.scorer, one.num_candidates) for one in parse_stages(rerank)]
        if is_chain(rerank)
        else [(rerank, compared)]
    )
    if when_unknown not in (AUTO, "none"):
        name, _, num = when_unknown.partition(":")
        scorers.append((name, int(num) if num.isdecimal() else 0))
    for name, num in scorers:
        if name not in SCORERS:
            raise BadOption(
                "there is no scorer of this name here; /v1/models lists them: "
                f"{', '.join(sorted(SCORERS)[:8])}, ..."
            )
        if num > MAX_COMPARED:
            raise BadOption(f"at most {MAX_COMPARED} candidates are compared here, not {num}")
    if not 1 <= compared <= MAX_COMPARED:
        raise BadOption(f"from 1 to {MAX_COMPARED} candidates are compared here, not {compared}")
    options = locate_options(
        rerank,
        num_candidates=compared,
        otherwise=OTHERWISE,
        is_verified=values.get("verify", True) is not False,
        min_confidence=values.get("min_confidence"),
    )
    return replace(
        options, when_unknown=when_unknown, views=parse_views(values.get("query_mode"), None)
    )


def around_of(values: Mapping[str, Any]) -> Around | None:
    """The geographic filter of a request, as `near` (LAT,LON) and `within` (metres). Raises
    `BadOption`."""
    near, within = values.get("near"), values.get("within")
    if near is None and within is None:
        return None
    if near is None or within is None:
        raise BadOption("near=LAT,LON and within=METRES go together")
    return Around(point_of(near), float(within))


def point_of(text: str) -> GeoPoint:
    """The place of LAT,LON in degrees. Raises `BadOption` and `InvalidPoint`."""
    try:
        lat, lon = (float(part) for part in text.split(","))
    except ValueError:
        raise BadOption("a place is LAT,LON in degrees, for example 55.705,13.188") from None
    return GeoPoint(lat, lon)


def ask_batch(
    database: OpenDatabase, sources: Sequence[tuple[str, bytes | Path]], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Answers for photos, described together, as records; one that cannot be read is `unknown` and
    says why."""
    k, around = int(values.get("k") or 20), around_of(values)
    if not 1 <= k <= MAX_CANDIDATES:
        raise BadOption(f"from 1 to {MAX_CANDIDATES} candidates are answered, not {k}")
    key = tuple(
        (name, values.get(name)) for name in OPTION_NAMES if name not in ("k", "near", "within")
    )
    judge = database.judge(key, lambda: options_of(values))
    described = judge.describe([source for _, source in sources])
    records = []
    for (name, source), result in zip(sources, described, strict=True):
        if isinstance(result, UnreadableImage):
            records.append(unreadable(name, result))
            continue
        answer = judge.answer(
            name,
            result,
            k=k,
            around=around,
            seconds={},
            content=content_hash(source),
            source=source,
        )
        records.append(answer_record(answer, judge.retriever.photos.columns["content"]))
    return records


def answer_record(position: Position, contents: Any) -> dict[str, Any]:
    """The record of an answer, with the id of each candidate's photo."""
    record = position.to_dict()
    for shown, candidate in zip(record["candidates"], position.candidates, strict=True):
        shown["id"] = contents[candidate.row].decode() if candidate.row >= 0 else None
        shown["heading_deg"] = candidate.heading_deg
    return record


def unreadable(name: str, error: UnreadableImage) -> dict[str, Any]:
    """The record of a photo that cannot be read."""
    return {
        **Position(name, "unknown", reason=f"it cannot be read: {error.reason}").to_dict(),
        "is_readable": False,
    }
