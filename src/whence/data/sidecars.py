"""Positions from files that lie beside a photo: Google Takeout JSON and XMP.

Looked for beside `photo.jpg`, in this order: photo.jpg.xmp, photo.xmp, photo.jpg.supplemental-metadata.json, photo.jpg.json.
XMP is parsed without document types, so entities cannot expand and nothing outside the file is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.parsers import expat

from whence.data.exif import degrees
from whence.data.placement import Placement
from whence.errors import InvalidPoint, UnreadableTable
from whence.types import GeoPoint

MAX_SIDECAR_BYTES = 16_000_000
_EXIF_SPACE = "http://ns.adobe.com/exif/1.0/"
_COORDINATE = re.compile(r"\s*(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?(?:,(\d+(?:\.\d+)?))?\s*([NSEW])\s*", re.IGNORECASE)


def find_sidecar(photo: str | Path) -> Path | None:
    """The sidecar file of a photo, or None."""
    photo = Path(photo)
    names = (f"{photo.name}.xmp", f"{photo.stem}.xmp", f"{photo.name}.supplemental-metadata.json", f"{photo.name}.json")
    return next((path for path in map(photo.with_name, names) if path.is_file()), None)


def read_sidecar(path: str | Path) -> Placement:
    """What a sidecar file says; silent where it holds no position. Raises `UnreadableTable` where it is broken."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_SIDECAR_BYTES:
            raise UnreadableTable(path, f"the sidecar is larger than {MAX_SIDECAR_BYTES:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None
    return _from_xmp(data, path) if path.suffix.lower() == ".xmp" else _from_takeout(data, path)


def _from_takeout(data: bytes, path: Path) -> Placement:
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UnreadableTable(path, f"not JSON: {error.msg}", line=error.lineno) from None
    except (UnicodeDecodeError, RecursionError):
        raise UnreadableTable(path, "not JSON in UTF-8") from None
    if not isinstance(record, dict):
        return Placement("sidecar")
    points = (_takeout_point(record.get(key)) for key in ("geoData", "geoDataExif"))
    taken = record.get("photoTakenTime")
    seconds = _number(taken.get("timestamp")) if isinstance(taken, dict) else None
    try:
        time = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        time = None
    return Placement("sidecar", next((point for point in points if point is not None), None), time=time)


def _takeout_point(data: Any) -> GeoPoint | None:
    if not isinstance(data, dict):
        return None
    lat, lon = _number(data.get("latitude")), _number(data.get("longitude"))
    # Takeout writes zeros, altitude included, for photos without a position.
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return _point(lat, lon, _number(data.get("altitude")))


def _from_xmp(data: bytes, path: Path) -> Placement:
    fields = _xmp_fields(data, path)
    lat = _xmp_degrees(fields.get("GPSLatitude", ""), positive="N", negative="S")
    lon = _xmp_degrees(fields.get("GPSLongitude", ""), positive="E", negative="W")
    altitude = _ratio(fields.get("GPSAltitude", ""))
    if altitude is not None and fields.get("GPSAltitudeRef", "").strip() == "1":
        altitude = -abs(altitude)
    heading = _ratio(fields.get("GPSImgDirection", ""))
    heading = heading % 360 if heading is not None and abs(heading) <= 360 else None
    return Placement(
        source="sidecar",
        point=None if lat is None or lon is None else _point(lat, lon, altitude),
        heading_deg=heading,
        heading_is_magnetic=heading is not None and fields.get("GPSImgDirectionRef", "").strip().upper() == "M",
        error_m=_ratio(fields.get("GPSHPositioningError", "")),
        time=_iso_time(fields.get("DateTimeOriginal", "")),
    )


def _xmp_fields(data: bytes, path: Path) -> Mapping[str, str]:
    """The simple properties of the exif name space, written as attributes or as elements."""
    fields: dict[str, str] = {}
    inside: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def refuse(*_: object) -> None:
        raise UnreadableTable(path, "it declares a document type, which no XMP sidecar needs", line=parser.CurrentLineNumber)

    def start(name: str, attributes: dict[str, str]) -> None:
        inside.append(name)
        for key, value in {**attributes, name: ""}.items():
            space, _, field = key.partition(" ")
            if space == _EXIF_SPACE:
                fields[field] = value

    def text(value: str) -> None:
        space, _, field = inside[-1].partition(" ")
        if space == _EXIF_SPACE:
            fields[field] += value

    def end(name: str) -> None:
        inside.pop()

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    try:
        parser.Parse(data.strip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        raise UnreadableTable(path, f"not XML: {expat.ErrorString(error.code)}", line=error.lineno) from None
    except ValueError as error:
        raise UnreadableTable(path, f"not XML: {error}") from None
    return fields


def _xmp_degrees(text: str, *, positive: str, negative: str) -> float | None:
    """Signed degrees from "55,42.5N" or "55,42,30N"."""
    match = _COORDINATE.fullmatch(text)
    if match is None:
        return None
    parts = [float(part) for part in match.groups()[:3] if part is not None]
    return degrees(parts, letter=match[4].upper(), positive=positive, negative=negative)


def _ratio(text: str) -> float | None:
    """A number written "12.5" or "125/10"; None for 0/0 and anything else."""
    above, slash, below = text.partition("/")
    numerator, denominator = _number(above), _number(below) if slash else 1.0
    return None if numerator is None or not denominator else numerator / denominator


def _iso_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _point(lat: float, lon: float, altitude_m: float | None) -> GeoPoint | None:
    try:
        return GeoPoint(lat, lon, altitude_m)
    except InvalidPoint:
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
