"""Writes a report page as one HTML file that opens offline: style, script, data and thumbnails are
all inside it.

The page's own policy forbids every request, and its script is pinned by hash, so nothing a file
name holds can run or load. Names and texts travel as JSON and are put into the page as text, never
as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whence.data.thumbnails import thumbnail_uri
from whence.evaluation.page import Page, PageEntry
from whence.geo import distance_m
from whence.runtime import atomic_write, map_threads
from whence.types import Candidate, GeoPoint
from whence.web.templates import as_script_json, asset, closed_policy, render

MAX_PAGE_BYTES = 24_000_000
"""Thumbnails are left out, and the page says so, once it would grow beyond this."""
MAX_PAGE_QUERIES = 5_000
"""Queries shown; of more, the wrong and the unknown ones go first."""
NUM_PAGE_CANDIDATES = 5
"""Candidates shown per query."""
MATCH_PICTURE_PX = 800
ATTENTION_PICTURE_PX = 400
MIN_LAND_DEG = 1.0
"""Degrees between answers from which outlines of land are on the map."""


def write_page(path: str | Path, page: Page, *, max_bytes: int = MAX_PAGE_BYTES) -> None:
    """Write the page, whole or not at all. Raises `UnwritableFile`."""
    text = build_page(page, max_bytes=max_bytes)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "replace"))


def build_page(page: Page, *, max_bytes: int = MAX_PAGE_BYTES) -> str:
    """The page as text. Thumbnails stop before it exceeds `max_bytes`; those of wrong and unknown
    answers are made first."""
    style, *scripts = (asset(name) for name in ("page.css", "shared.js", "page.js", "map.js"))
    script = f'"use strict";\n(() => {{\n{"".join(scripts)}start();\n}})();\n'
    chosen = _chosen(page.entries)
    sheet = _Sheet(chosen)
    values: dict[str, Any] = {
        "title": page.title,
        "policy": closed_policy(style=style, script=script),
        "style": style,
        "script": script,
    }
    values["drawings"] = page.drawings
    fixed = len(
        render(
            "report.html", {**values, "data": as_script_json(_content(page, chosen, sheet))}
        ).encode("utf-8", "replace")
    )
    sheet.fill(max_bytes - fixed)
    return render("report.html", {**values, "data": as_script_json(_content(page, chosen, sheet))})


@dataclass(frozen=True, slots=True)
class _Picture:
    source: Any
    long_side_px: int | None


class _Sheet:
    """The thumbnails of a page, each made once: by file, in the order in which they matter."""

    def __init__(self, entries: Sequence[PageEntry]) -> None:
        self.uris: list[str] = []
        self.num_left_out = 0
        self._number: dict[object, int] = {}
        self._images: dict[object, _Picture] = {}
        by_need = sorted(entries, key=_need)
        for rank in range(-1, NUM_PAGE_CANDIDATES):
            for entry in by_need:
                self._want(entry, rank)

    def _want(self, entry: PageEntry, rank: int) -> None:
        if rank >= 0:
            for photo in entry.candidate_photos[rank : rank + 1]:
                self._images[photo] = _Picture(photo, None)
            return
        if entry.photo is not None:
            self._images[entry.photo] = _Picture(entry.photo, None)
        if entry.match_picture is not None:
            self._images[id(entry.match_picture)] = _Picture(entry.match_picture, MATCH_PICTURE_PX)
        if entry.attention_picture is not None:
            self._images[id(entry.attention_picture)] = _Picture(
                entry.attention_picture, ATTENTION_PICTURE_PX
            )

    def fill(self, num_bytes: int) -> None:
        """Make thumbnails until `num_bytes` are used; the rest is counted in `num_left_out`."""
        keys = list(self._images)
        spent = 0
        for made, uri in enumerate(map_threads(_make, (self._images[key] for key in keys))):
            # Each URI stands in a JSON list: quotes and a comma, and its number wherever it is
            # shown.
            spent += 0 if uri is None else len(uri) + 16
            if spent > num_bytes:
                self.num_left_out = len(keys) - made
                return
            if uri is not None:
                self._number[keys[made]] = len(self.uris)
                self.uris.append(uri)

    def number(self, key: object) -> int:
        """Which thumbnail shows this photo; -1 for none."""
        return self._number.get(key, -1)


def _make(picture: _Picture) -> str | None:
    if picture.long_side_px is None:
        return thumbnail_uri(picture.source)
    return thumbnail_uri(picture.source, long_side_px=picture.long_side_px)


def _need(entry: PageEntry) -> int:
    """0 for what a reader looks at first."""
    return 0 if entry.is_right is False else 1 if entry.position.status == "unknown" else 2


def _chosen(entries: Sequence[PageEntry]) -> list[PageEntry]:
    """The entries that are shown, in their order."""
    kept = sorted(sorted(range(len(entries)), key=lambda i: _need(entries[i]))[:MAX_PAGE_QUERIES])
    return [entries[i] for i in kept]


def _content(page: Page, entries: Sequence[PageEntry], sheet: _Sheet) -> dict[str, Any]:
    return {
        "title": page.title,
        "lines": [*page.lines, page.rule] if page.rule else list(page.lines),
        "tables": [
            {"caption": table.caption, "header": table.header, "rows": table.rows}
            for table in page.tables
        ],
        "limits": list(_limits(page, entries, sheet)),
        "entries": [_record(entry, sheet) for entry in entries],
        "thumbnails": sheet.uris,
        "land": json.loads(asset("carried/land-110m.json")) if _is_wide(entries) else None,
    }


def _is_wide(entries: Sequence[PageEntry]) -> bool:
    """Whether answers and truths lie so far apart that outlines of land help to read the map."""
    points = [
        point
        for entry in entries
        for point in (entry.position.point, entry.truth)
        if point is not None
    ]
    lats, lons = [point.lat for point in points], [point.lon for point in points]
    return bool(points) and max(max(lats) - min(lats), max(lons) - min(lons)) > MIN_LAND_DEG


def _limits(page: Page, entries: Sequence[PageEntry], sheet: _Sheet) -> Iterator[str]:
    if len(entries) < len(page.entries):
        num = len(page.entries)
        yield (
            f"{num - len(entries):,} of {num:,} queries are not on this page; wrong and unknown "
            "ones go first."
        )
    if sheet.num_left_out:
        yield (
            f"{sheet.num_left_out:,} photos are not shown, to keep this page under its limit of "
            "size."
        )


def _record(entry: PageEntry, sheet: _Sheet) -> dict[str, Any]:
    position = entry.position
    is_answered = position.status != "unknown"
    candidates = position.candidates[:NUM_PAGE_CANDIDATES]
    guess = position.best_guess
    point = position.point if guess is None or is_answered else guess.point
    return {
        "name": position.query,
        "status": position.status,
        "verdict": ""
        if entry.is_right is None or not is_answered
        else "right"
        if entry.is_right
        else "wrong",
        "isUnverified": is_answered and position.confidence is None,
        "point": _pair(point),
        "radius": position.radius_m,
        "heading": position.heading_deg,
        "confidence": guess.confidence
        if guess is not None and position.confidence is None
        else position.confidence,
        "truth": _pair(entry.truth),
        "error": distance_m(point, entry.truth) if point and entry.truth else None,
        "reason": position.reason,
        "note": entry.note,
        "seconds": dict(position.seconds),
        "photo": sheet.number(entry.photo),
        "match": -1 if entry.match_picture is None else sheet.number(id(entry.match_picture)),
        "attention": -1
        if entry.attention_picture is None
        else sheet.number(id(entry.attention_picture)),
        "candidates": [
            _candidate(entry, candidate, i, sheet) for i, candidate in enumerate(candidates)
        ],
    }


def _candidate(entry: PageEntry, candidate: Candidate, place: int, sheet: _Sheet) -> dict[str, Any]:
    return {
        "name": candidate.photo,
        "rank": candidate.rank,
        "similarity": candidate.similarity,
        "inliers": candidate.num_inliers,
        "isStopped": candidate.evidence is not None and candidate.evidence.is_stopped,
        "point": _pair(candidate.point),
        "isRight": entry.are_positives[place] if place < len(entry.are_positives) else None,
        "photo": sheet.number(entry.candidate_photos[place])
        if place < len(entry.candidate_photos)
        else -1,
    }


def _pair(point: GeoPoint | None) -> tuple[float, float] | None:
    return None if point is None else (round(point.lat, 7), round(point.lon, 7))
