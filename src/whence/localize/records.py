"""Answers as they are written and read: JSON, CSV, GeoJSON, GPX and XMP; and the options of a
question as texts.

Command line, report and service share this one place. What a format cannot hold is left out, never
made up: candidates stand in JSON alone, GPX knows a name and a place, a sidecar a place, a radius
and a heading.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from whence.data.fields import plain_field, safe_fields
from whence.data.geotags import Geotag, Waypoint, gpx_document, write_gpx, xmp_sidecar
from whence.data.numbers import finite_number
from whence.data.xmp import placement_from_xmp
from whence.errors import BadOption, InvalidPoint, UnreadableTable
from whence.localize.missing import Proposal
from whence.records import finite_values
from whence.runtime import atomic_write
from whence.types import BestGuess, Candidate, GeoPoint, PairEvidence, Position

COLUMNS = (
    *("query", "status", "lat", "lon", "radius_m", "heading_deg", "confidence", "is_verified"),
    *("best_photo", "similarity", "reason", "scorer"),
)
PROPOSAL_COLUMNS = (
    *(
        "photo",
        "placed_by",
        "lat",
        "lon",
        "radius_m",
        "heading_deg",
        "confidence",
        "best_photo",
        "before",
        "after",
        "evidence",
        "shift_s",
        "reason",
    ),
)
_STATUSES = ("located", "matched", "unknown")
_GPX_SPACE = "{http://www.topografix.com/GPX/1/1}"


# ---- JSON ----------------------------------------------------------------------------------------


def position_of(record: Mapping[str, Any]) -> Position:
    """The answer that `Position.to_dict` made this record of, with all a record holds. Raises
    `BadOption` for other records."""
    try:
        status = record["status"]
        if status not in _STATUSES:
            raise BadOption(f"an answer's status is one of {', '.join(_STATUSES)}, not {status!r}")
        place, guess = record.get("position") or {}, record.get("best_guess")
        return Position(
            str(record["query"]),
            status,
            point=_point(place),
            radius_m=place.get("radius_m"),
            heading_deg=place.get("heading_deg"),
            confidence=record.get("confidence"),
            candidates=tuple(_candidate(one) for one in record.get("candidates", ())),
            seconds=dict(record.get("seconds", {})),
            reason=record.get("reason", ""),
            best_guess=None if not guess else _guess(guess),
            is_verified=bool(record.get("is_verified", False)),
            scorer=record.get("scorer", ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadOption(f"this is no record of an answer: {type(error).__name__} {error}") from None


def _guess(record: Mapping[str, Any]) -> BestGuess:
    return BestGuess(
        record["photo"], _point(record), record.get("radius_m"), record.get("confidence")
    )


def _candidate(record: Mapping[str, Any]) -> Candidate:
    is_stopped = bool(record.get("is_passed_over"))
    return Candidate(
        record["photo"],
        int(record["rank"]),
        float("nan") if record.get("similarity") is None else float(record["similarity"]),
        point=_point(record),
        num_inliers=record.get("num_inliers"),
        confidence=record.get("confidence"),
        retrieved_rank=record.get("retrieved_rank"),
        evidence=PairEvidence(0.0, num_inliers=None, is_stopped=True) if is_stopped else None,
    )


def _point(record: Mapping[str, Any]) -> GeoPoint | None:
    lat, lon = record.get("lat"), record.get("lon")
    return None if lat is None or lon is None else GeoPoint(float(lat), float(lon))


# ---- CSV -----------------------------------------------------------------------------------------


def as_csv(positions: Iterable[Position]) -> str:
    """Answers as a table, the header first, one line per query; fields that spreadsheets would
    compute are made harmless."""
    return _table(COLUMNS, map(_csv_row, positions))


def write_csv(path: str | Path, positions: Iterable[Position]) -> None:
    """Write answers as a table, whole or not at all. Raises `UnwritableFile`."""
    _write(path, as_csv(positions))


def _csv_row(one: Position) -> list[Any]:
    where = (one.point.lat, one.point.lon) if one.point else ("", "")
    best = (one.candidates[0].photo, one.candidates[0].similarity) if one.candidates else ("", "")
    sure = (one.confidence, str(one.is_verified).lower())
    return [
        one.query,
        one.status,
        *where,
        one.radius_m,
        one.heading_deg,
        *sure,
        *best,
        one.reason,
        one.scorer,
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = StringIO(newline="")
    table = csv.writer(text)
    table.writerow(safe_fields(columns))
    table.writerows(safe_fields(row) for row in rows)
    return text.getvalue()


def _of_csv(text: str, path: Path) -> tuple[Position, ...]:
    rows = csv.DictReader(StringIO(text, newline=""))
    if not {"query", "status"} <= set(rows.fieldnames or ()):
        raise UnreadableTable(
            path, "it has no columns query and status, so it is no table of answers"
        )
    found = []
    for row in rows:
        values = {
            name: plain_field(field or "")
            for name, field in row.items()
            if isinstance(name, str) and not isinstance(field, list)
        }
        numbers = {
            name: finite_number(values.get(name, ""))
            for name in ("lat", "lon", "radius_m", "heading_deg", "confidence")
        }
        best = values.get("best_photo", "")
        similarity = finite_number(values.get("similarity", ""))
        record = {
            **{name: values.get(name, "") for name in ("query", "status", "reason", "scorer")},
            "position": {name: numbers[name] for name in ("lat", "lon", "radius_m", "heading_deg")},
            "confidence": numbers["confidence"],
            "is_verified": values.get("is_verified") == "true",
            "candidates": [{"photo": best, "rank": 1, "similarity": similarity}] if best else [],
        }
        found.append(_checked(record, path, line=rows.line_num))
    return tuple(found)


def _checked(record: Mapping[str, Any], path: Path, *, line: int | None = None) -> Position:
    try:
        return position_of(record)
    except (BadOption, InvalidPoint, ValueError) as error:
        raise UnreadableTable(path, str(error), line=line) from None


# ---- GeoJSON -------------------------------------------------------------------------------------


def as_geojson(positions: Iterable[Position]) -> dict[str, Any]:
    """Answers with coordinates as points of a GeoJSON FeatureCollection; longitude comes first
    there."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [one.point.lon, one.point.lat]},
            "properties": {
                **{
                    key: value
                    for key, value in one.to_dict().items()
                    if key not in ("position", "candidates")
                },
                "radius_m": one.radius_m,
                "heading_deg": one.heading_deg,
            },
        }
        for one in positions
        if one.point is not None
    ]
    found: dict[str, Any] = finite_values({"type": "FeatureCollection", "features": features})
    return found


def write_geojson(path: str | Path, positions: Iterable[Position]) -> None:
    """Write answers with coordinates as GeoJSON, whole or not at all. Raises `UnwritableFile`."""
    _write(path, json.dumps(as_geojson(positions), ensure_ascii=False, indent=1))


def _of_geojson(collection: Any, path: Path) -> tuple[Position, ...]:
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        raise UnreadableTable(path, "not a GeoJSON FeatureCollection")
    found = []
    for feature in collection["features"]:
        try:
            about, (lon, lat, *_) = feature["properties"], feature["geometry"]["coordinates"]
            place = {
                "lat": lat,
                "lon": lon,
                "radius_m": about.get("radius_m"),
                "heading_deg": about.get("heading_deg"),
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UnreadableTable(path, "a feature is no point of an answer") from None
        found.append(_checked({**about, "position": place}, path))
    return tuple(found)


# ---- GPX and XMP ---------------------------------------------------------------------------------


def waypoints_of_answers(positions: Iterable[Position]) -> list[Waypoint]:
    """Located photos as waypoints: a name and a place."""
    return [
        Waypoint(one.query, one.point) for one in positions if one.point and one.status == "located"
    ]


def as_gpx(positions: Iterable[Position]) -> str:
    """Located photos as waypoints of a GPX document."""
    return gpx_document(waypoints_of_answers(positions))


def write_places(path: str | Path, positions: Iterable[Position]) -> None:
    """Write located photos as waypoints of a GPX file, whole or not at all. Raises
    `UnwritableFile`."""
    write_gpx(path, waypoints_of_answers(positions))


def _of_gpx(data: bytes, path: Path) -> tuple[Position, ...]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise UnreadableTable(path, "documents with a document type are not read")
    try:
        root = ElementTree.fromstring(data)
        places = [
            (
                one.findtext(f"{_GPX_SPACE}name") or "",
                GeoPoint(float(one.attrib["lat"]), float(one.attrib["lon"])),
            )
            for one in root.iter(f"{_GPX_SPACE}wpt")
        ]
    except (ElementTree.ParseError, KeyError, ValueError, InvalidPoint) as error:
        raise UnreadableTable(path, f"it is no GPX 1.1 of places: {error}") from None
    return tuple(Position(name, "located", point=point) for name, point in places)


def as_xmp(position: Position) -> bytes:
    """The sidecar that states a located answer. Raises `BadOption` for an answer without
    coordinates."""
    if position.point is None:
        raise BadOption(f"{position.query!r} has no coordinates, and a sidecar states some")
    return xmp_sidecar(Geotag(position.point, position.heading_deg, position.radius_m))


def _of_xmp(data: bytes, path: Path) -> tuple[Position, ...]:
    placed = placement_from_xmp(data, path=path, source="sidecar")
    if placed.point is None:
        return ()
    query = path.name.removesuffix(path.suffix)
    return (
        Position(
            query,
            "located",
            point=placed.point,
            radius_m=placed.error_m,
            heading_deg=placed.heading_deg,
        ),
    )


# ---- files ---------------------------------------------------------------------------------------


def read_answers(path: str | Path) -> tuple[Position, ...]:
    """Answers out of a file by its ending: .json and .jsonl (one record a line), .csv, .geojson,
    .gpx or .xmp.

    Raises `UnreadableTable` for a file that is broken or holds something else.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
        if file.suffix == ".gpx":
            return _of_gpx(data, file)
        if file.suffix == ".xmp":
            return _of_xmp(data, file)
        text = data.decode("utf-8")
        if file.suffix == ".csv":
            return _of_csv(text, file)
        if file.suffix == ".geojson":
            return _of_geojson(json.loads(text), file)
        if file.suffix in (".json", ".jsonl"):
            lines = [
                (number, line)
                for number, line in enumerate(text.splitlines(), start=1)
                if line.strip()
            ]
            return tuple(_checked(json.loads(line), file, line=number) for number, line in lines)
    except OSError as error:
        raise UnreadableTable(file, error.strerror or str(error)) from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise UnreadableTable(file, f"not what its ending says: {error}") from None
    raise UnreadableTable(
        file, "answers are read from .json, .jsonl, .csv, .geojson, .gpx and .xmp"
    )


def _write(path: str | Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


# ---- proposals for photos without a geotag -------------------------------------------------------


def proposal_record(proposal: Proposal) -> dict[str, Any]:
    """Plain values of a proposal, as `whence tag --json` prints them."""
    position, hint = proposal.position, proposal.hint
    best = position.candidates[0] if position.candidates else None
    return {
        "photo": proposal.photo,
        "placed_by": proposal.placed_by,
        "position": _place(
            proposal.point, radius_m=proposal.radius_m, heading_deg=proposal.heading_deg
        ),
        "is_verified": proposal.is_verified,
        "match": {
            "status": position.status,
            "position": _place(
                position.point, radius_m=position.radius_m, heading_deg=position.heading_deg
            ),
            "confidence": position.confidence,
            "photo": None if best is None else best.photo,
            "similarity": None if best is None else best.similarity,
            "num_inliers": None if best is None else best.num_inliers,
            "scorer": position.scorer,
        },
        "time": None
        if hint is None
        else {
            "position": _place(hint.point),
            "before": hint.before or None,
            "after": hint.after or None,
            "gap_s": hint.gap_s,
            "apart_m": hint.apart_m,
        },
        "track": None
        if proposal.track is None
        else {
            "position": _place(proposal.track.point),
            "shift_s": proposal.track.shift_s,
            "source": proposal.track.source,
        },
        "evidence": list(proposal.evidence),
        "reason": proposal.reason,
    }


def write_proposals(path: str | Path, proposals: Iterable[Proposal]) -> None:
    """Write proposals as a table, whole or not at all. Raises `UnwritableFile`."""
    _write(path, _table(PROPOSAL_COLUMNS, map(_proposal_row, proposals)))


def _place(
    point: GeoPoint | None, *, radius_m: float | None = None, heading_deg: float | None = None
) -> dict[str, Any] | None:
    if point is None:
        return None
    return {"lat": point.lat, "lon": point.lon, "radius_m": radius_m, "heading_deg": heading_deg}


def _proposal_row(proposal: Proposal) -> list[Any]:
    point, hint, position = proposal.point, proposal.hint, proposal.position
    return [
        *(
            proposal.photo,
            proposal.placed_by,
            None if point is None else point.lat,
            None if point is None else point.lon,
        ),
        *(proposal.radius_m, proposal.heading_deg, position.confidence),
        position.candidates[0].photo if position.candidates else None,
        *((None, None) if hint is None else (hint.before, hint.after)),
        *(", ".join(proposal.evidence), None if proposal.track is None else proposal.track.shift_s),
        proposal.reason,
    ]
