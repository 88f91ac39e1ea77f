"""Rows of a journal as files that other programs read: CSV, GeoJSON, GPX, or JSON a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from whence.data.fields import plain_field, safe_fields
from whence.data.geotags import Waypoint, gpx_document
from whence.errors import BadOption
from whence.journal.log import Entry
from whence.localize.records import as_csv, as_geojson
from whence.runtime import atomic_write

FORMATS = (".csv", ".json", ".jsonl", ".geojson", ".gpx")
_ABOUT = ("number", "at", "taken_at", "asked_at", "weather", "model", "database")


def write_entries(path: str | Path, entries: Iterable[Entry]) -> int:
    """The number of rows written, in the form that the file's ending names; whole or not at all.

    Times are ISO 8601, UTC. GPX holds located photos alone. Raises `BadOption` for another ending,
    and `UnwritableFile`.
    """
    out, rows = Path(path), list(entries)
    if out.suffix not in FORMATS:
        raise BadOption(f"{str(path)!r}: a journal is written as one of {', '.join(FORMATS)}")
    positions = [entry.position for entry in rows]
    if out.suffix == ".csv":
        text = _with_times(as_csv(positions), rows)
    elif out.suffix == ".geojson":
        collection = as_geojson(positions)
        placed = (entry for entry in rows if entry.position.point is not None)
        for feature, entry in zip(collection["features"], placed, strict=True):
            feature["properties"] |= dict(zip(_ABOUT, _about(entry), strict=True))
        text = json.dumps(collection, ensure_ascii=False, indent=1)
    elif out.suffix == ".gpx":
        text = gpx_document(
            Waypoint(one.position.query, one.position.point, datetime.fromtimestamp(one.at, UTC))
            for one in rows
            if one.position.point is not None and one.position.status == "located"
        )
    else:
        text = "".join(json.dumps(entry.to_dict(), ensure_ascii=False) + "\n" for entry in rows)
    with atomic_write(out, "w") as file:
        file.write(text)
    return len(rows)


def _with_times(table: str, rows: list[Entry]) -> str:
    """The table of answers, behind what the journal knows of each."""
    header, *lines = csv.reader(StringIO(table, newline=""))
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(safe_fields([*_ABOUT, *header]))
    plain = ([plain_field(field) for field in line] for line in lines)
    writer.writerows(
        safe_fields([*_about(entry), *line]) for entry, line in zip(rows, plain, strict=True)
    )
    return text.getvalue()


def _about(entry: Entry) -> list[object]:
    times = (entry.at, entry.taken_at, entry.asked_at)
    return [entry.number, *map(_as_iso, times), entry.weather, entry.model, entry.store]


def _as_iso(at: float | None) -> str | None:
    return (
        None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    )
