"""Tables that say where photos were taken: CSV and GeoJSON.

CSV: one header line, then one photo a line; separated by comma, semicolon or tab, UTF-8. Columns are known by name, in any case:
a name (path, file, filename, image, name, photo), a position (lat or latitude with lon, lng or longitude; or easting, northing
and zone), and if wanted altitude, heading and time. GeoJSON: a FeatureCollection of points, the same names as properties.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from whence.data.cells import plain_cell
from whence.data.exif import parse_exif_time
from whence.data.names import parse_timestamp
from whence.data.placement import Placement
from whence.errors import InvalidPoint, UnreadableTable
from whence.geo import from_utm, parse_zone
from whence.types import GeoPoint, PlanePoint

_FIELDS = {
    "name": ("path", "file", "filename", "file_name", "image", "name", "photo"),
    "lat": ("lat", "latitude", "lat_deg"),
    "lon": ("lon", "lng", "long", "longitude", "lon_deg"),
    "altitude": ("alt", "altitude", "altitude_m"),
    "heading": ("heading", "heading_deg", "compass", "compass_angle", "bearing"),
    "time": ("time", "timestamp", "datetime"),
    "east": ("easting", "east", "utm_east", "east_m"),
    "north": ("northing", "north", "utm_north", "north_m"),
    "zone": ("zone", "utm_zone"),
}
_WGS84_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326")


@dataclass(frozen=True)
class PositionTable:
    """Positions by photo name. A row's name may be a path from any folder above the photo, or the bare file name."""

    path: str
    rows: Mapping[str, Placement]

    def find(self, photo: str | Path) -> Placement | None:
        """The row of a photo: the one whose name is the longest tail of the photo's path; None where there is none."""
        parts = Path(photo).as_posix().split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self.rows[tail] for tail in tails if tail in self.rows), None)


def read_positions(path: str | Path) -> PositionTable:
    """The table in a CSV or GeoJSON file. Raises `UnreadableTable` naming the line, or the feature, that is wrong."""
    path = Path(path)
    text = read_table_text(path)
    is_json = path.suffix.lower() in (".json", ".geojson") or text.lstrip()[:1] == "{"
    return PositionTable(str(path), _read_geojson(text, path) if is_json else _read_csv(text, path))


def read_table_text(path: str | Path) -> str:
    """The text of a table in UTF-8, a byte order mark left out. Raises `UnreadableTable`."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableTable(path, f"byte {error.start} is not UTF-8; save the table as UTF-8") from None


def sniff_delimiter(header: str) -> str:
    """The separator of a table, judged by its header line: comma, semicolon or tab."""
    return max(",;\t", key=header.count)


def _read_csv(text: str, path: Path) -> dict[str, Placement]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = sniff_delimiter(first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: dict[str, Placement] = {}
    columns: dict[str, int] | None = None
    width = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns, width = _find_columns(cells, path), len(cells)
                continue
            if len(cells) != width:
                reason = f"{len(cells)} fields where the header has {width}; names that hold {delimiter!r} need quotes"
                raise UnreadableTable(path, reason, line=reader.line_num)
            values = {field: plain_cell(cells[column].strip()) for field, column in columns.items()}
            if delimiter != ",":
                values = {field: value if field == "name" else value.replace(",", ".") for field, value in values.items()}
            _add(rows, values, source="csv", path=path, line=reader.line_num)
    except csv.Error as error:
        raise UnreadableTable(path, str(error), line=reader.line_num) from None
    if columns is None:
        raise UnreadableTable(path, "the table is empty; its first line must name the columns")
    return rows


def _find_columns(header: list[str], path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for column, title in enumerate(header):
        for field, titles in _FIELDS.items():
            if title.strip().lower() in titles:
                if field in found:
                    reason = f"two columns for the {field}: {header[found[field]]!r} and {title!r}"
                    raise UnreadableTable(path, reason, line=1)
                found[field] = column
    has_position = {"lat", "lon"} <= found.keys() or {"east", "north", "zone"} <= found.keys()
    if "name" not in found or not has_position:
        wanted = "a name (such as path), and lat with lon or easting with northing and zone"
        raise UnreadableTable(path, f"the columns are {', '.join(header)}; needed are {wanted}", line=1)
    return found


def _read_geojson(text: str, path: Path) -> dict[str, Placement]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableTable(path, f"not JSON: {error.msg}", line=error.lineno) from None
    except RecursionError:
        raise UnreadableTable(path, "not GeoJSON: nested too deeply") from None
    if not isinstance(record, dict) or not isinstance(record.get("features"), list):
        raise UnreadableTable(path, "not a GeoJSON FeatureCollection")
    crs = json.dumps(record.get("crs"))
    if crs != "null" and not any(name in crs for name in _WGS84_NAMES):
        raise UnreadableTable(path, f"its coordinate system is {crs}; convert it to WGS84 longitude and latitude")
    rows: dict[str, Placement] = {}
    for number, feature in enumerate(record["features"], start=1):
        _add_feature(rows, feature, path=path, number=number)
    return rows


def _add_feature(rows: dict[str, Placement], feature: Any, *, path: Path, number: int) -> None:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        raise UnreadableTable(path, f"feature {number} has no properties")
    by_title = {str(title).strip().lower(): value for title, value in properties.items() if value is not None}
    values = {}
    for field in ("name", "heading", "time", "altitude"):
        # Titles are tried in order: "path" says more than "name" where a feature has both.
        values[field] = next((str(by_title[title]).strip() for title in _FIELDS[field] if title in by_title), "")
    if not values["name"]:
        raise UnreadableTable(path, f"feature {number} names no photo; give it a property such as path")
    geometry = feature.get("geometry")
    if geometry is not None:
        coordinates = geometry.get("coordinates") if isinstance(geometry, dict) and geometry.get("type") == "Point" else None
        if not isinstance(coordinates, list) or not 2 <= len(coordinates) <= 4:
            raise UnreadableTable(path, f"feature {number} ({values['name']}) is not a Point")
        values["lon"], values["lat"] = str(coordinates[0]), str(coordinates[1])
        if len(coordinates) > 2:
            values["altitude"] = str(coordinates[2])
    _add(rows, values, source="geojson", path=path, line=None)


def _add(rows: dict[str, Placement], values: Mapping[str, str], *, source: str, path: Path, line: int | None) -> None:
    name = _normal_name(values["name"])
    if not name:
        raise UnreadableTable(path, "a row without a photo name", line=line)
    try:
        placement = _placement(values, source)
    except (InvalidPoint, ValueError) as error:
        raise UnreadableTable(path, f"{name}: {error}", line=line) from None
    if rows.setdefault(name, placement) != placement:
        raise UnreadableTable(path, f"{name} stands in the table twice, with different values", line=line)


def _normal_name(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part != "."]
    return "/".join(part for i, part in enumerate(parts) if part or i == 0)


def _placement(values: Mapping[str, str], source: str) -> Placement:
    lat, lon = _number(values, "lat"), _number(values, "lon")
    east, north, zone = _number(values, "east"), _number(values, "north"), values.get("zone", "").replace(" ", "").upper()
    altitude, heading = _number(values, "altitude"), _number(values, "heading")
    if (lat is None) != (lon is None):
        raise ValueError("latitude and longitude must both be given, or both be empty")
    if (east is None) != (north is None):
        raise ValueError("easting and northing must both be given, or both be empty")
    if lon is not None and abs(lon) > 180:
        raise ValueError(f"longitude {lon} is not between -180 and 180")
    point = None if lat is None or lon is None else GeoPoint(lat, lon, altitude)
    plane = None
    if east is not None and north is not None:
        if zone:
            if not zone.isascii():
                raise ValueError(f"zone {zone!r} is not a UTM zone such as 32V")
            parse_zone(zone)
            point = point or from_utm(east, north, zone=zone)
        elif point is None:
            raise ValueError("easting and northing need a zone, for example 32V")
        plane = PlanePoint(east, north, zone)
    time = None
    if values.get("time"):
        time = _parse_time(values["time"])
    return Placement(source, point, plane, None if heading is None else heading % 360, time=time)


def _number(values: Mapping[str, str], field: str) -> float | None:
    text = values.get(field, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{field} is {text!r}, not a number")
    return number


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        time = parse_exif_time(text) or parse_timestamp(text)
    if time is None:
        raise ValueError(f"time {text!r} is not written like 2024-05-31T14:03:00+02:00")
    return time
