"""Tables that say where photos were taken: CSV and GeoJSON.

CSV: one header line, then one photo a line; separated by comma, semicolon or tab. Columns are known
by name, in any case: a name (path, file, filename, image, SourceFile, ...), a position (lat with
lon, as numbers or as people write degrees; easting, northing and zone; x and y; or a geometry
"POINT (18 59)", with a column crs where they are not degrees), and if wanted altitude, heading and
time. GeoJSON: a FeatureCollection of points, the same names as properties.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from whence.data.geojson import read_features
from whence.data.placement import Placement
from whence.data.remarks import first_few
from whence.data.rows import parse_fields
from whence.data.tables import Row, plain_name, read_rows, read_text, sniff_delimiter
from whence.errors import InvalidPoint, UnreadableTable

_FIELDS: dict[str, tuple[str, ...]] = {
    "name": (
        *(
            "path",
            "sourcefile",
            "filepath",
            "file_path",
            "file",
            "filename",
            "file_name",
            "image",
            "image_name",
            "image_path",
        ),
        *("name", "photo", "photo_name", "img"),
    ),
    "lat": ("lat", "latitude", "lat_deg", "gpslatitude", "gps_latitude"),
    "lon": ("lon", "lng", "long", "longitude", "lon_deg", "gpslongitude", "gps_longitude"),
    "lat_ref": ("gpslatituderef", "latituderef", "lat_ref", "latitude_ref"),
    "lon_ref": ("gpslongituderef", "longituderef", "lon_ref", "longitude_ref"),
    "altitude": ("alt", "altitude", "altitude_m", "gpsaltitude"),
    "heading": (
        "heading",
        "heading_deg",
        "compass",
        "compass_angle",
        "bearing",
        "gpsimgdirection",
        "direction",
    ),
    "time": (
        "time",
        "timestamp",
        "datetime",
        "captured_at",
        "datetimeoriginal",
        "capture_time",
        "date_time",
        "gpsdatetime",
    ),
    "east": ("easting", "east", "utm_east", "east_m"),
    "north": ("northing", "north", "utm_north", "north_m"),
    "zone": ("zone", "utm_zone"),
    "hemisphere": ("hemisphere", "hemi", "utm_hemisphere"),
    "x": ("x", "xcoord", "x_coord"),
    "y": ("y", "ycoord", "y_coord"),
    "wkt": ("wkt", "wkt_geom", "geometry", "geom", "the_geom"),
    "crs": ("crs", "epsg", "srid"),
}
_PREFERRED = ("name", "time", "altitude", "heading")
"""Fields for which a table may have several columns; the title that comes first above is taken."""
_POSITIONS = (
    ("lat", "lon"),
    ("east", "north", "zone"),
    ("east", "north", "crs"),
    ("wkt",),
    ("x", "y"),
)


class Fault(NamedTuple):
    """What is wrong with one row: "line 3: lat is 'x', not a number"."""

    line: int | None
    reason: str
    is_lost: bool = True
    """Whether the row is left out; else its position is taken, without the field that is not
    understood."""

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


@dataclass(frozen=True)
class PositionTable:
    """Positions by photo name. A row's name may be a path from any folder above the photo, or the
    bare file name."""

    path: str
    rows: Mapping[str, Placement]
    faults: tuple[Fault, ...] = ()
    """Rows and fields that are left out."""
    unclear: tuple[str, ...] = field(default=())
    """Names that fit several photos, with two of them."""

    def find(self, photo: str | Path) -> Placement | None:
        """The row of a photo: the one whose name is the longest tail of the photo's path; None
        where there is none."""
        name = self._row_of(photo)
        return None if name is None else self.rows[name]

    def fitted_to(self, photos: Iterable[str | Path]) -> PositionTable:
        """The table without the rows that are the first to fit several of these photos: which of
        them is meant is not known."""
        files, table = list(dict.fromkeys(map(str, photos))), self
        while True:
            meant: dict[str, list[str]] = {}
            for file in files:
                name = table._row_of(file)
                if name is not None:
                    meant.setdefault(name, []).append(file)
            shared = {name: fitting for name, fitting in meant.items() if len(fitting) > 1}
            if not shared:
                return table
            rows = {name: row for name, row in table.rows.items() if name not in shared}
            unclear = [
                f"{name} ({_short(fitting[0])}, {_short(fitting[1])})"
                for name, fitting in shared.items()
            ]
            table = replace(table, rows=rows, unclear=(*table.unclear, *unclear))

    def remarks(self) -> tuple[str, ...]:
        """Sentences that a person should know about the table."""
        said = []
        for is_lost, what in ((True, "rows left out"), (False, "fields not understood")):
            faults = [str(fault) for fault in self.faults if fault.is_lost == is_lost]
            if faults:
                said.append(f"{self.path}, {what}: {len(faults)}; {first_few(faults)}")
        if self.unclear:
            names = first_few(self.unclear)
            said.append(
                f"{self.path}, names that fit several photos and are not used: "
                f"{len(self.unclear)}; {names}; name the folder"
            )
        return tuple(said)

    def _row_of(self, photo: str | Path) -> str | None:
        parts = plain_name(Path(photo).as_posix()).split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if tail in self.rows), None)


def read_positions(path: str | Path) -> PositionTable:
    """The table in a CSV or GeoJSON file; rows that are wrong are its `faults`.

    Raises `UnreadableTable`, naming the line or the feature, where the table as a whole cannot be
    used or no row is right.
    """
    path = Path(path)
    text = read_text(path)
    is_json = path.suffix.lower() in (".json", ".geojson") or text.lstrip()[:1] == "{"
    gathered = _Gathered(path, "geojson" if is_json else "csv")
    (_gather_features if is_json else _gather_rows)(text, gathered)
    return gathered.table()


class _Gathered:
    """Rows of a table as they are read. Names that stand twice with different values are left out:
    which is right is not known."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.source = source
        self.rows: dict[str, Placement] = {}
        self.twice: set[str] = set()
        self.faults: list[Fault] = []
        self.first_beyond: Fault | None = None
        """The first x and y, of a system that is not stated, that are no degrees: then none of the
        table's are."""

    def add(
        self, values: Mapping[str, str], *, line: int | None, where: str = "", crs: str = ""
    ) -> None:
        name = plain_name(values["name"])
        try:
            if not name:
                raise ValueError("a row without a photo name")
            fields = parse_fields(values, source=self.source, crs=crs)
        except (InvalidPoint, ValueError) as error:
            self.faults.append(
                Fault(line, f"{where}{name}: {error}" if name else f"{where}{error}")
            )
            if "x" in values and not (crs or values.get("crs")):
                self.first_beyond = self.first_beyond or self.faults[-1]
            return
        self.faults += [
            Fault(line, f"{where}{name}: {reason}", is_lost=False) for reason in fields.faults
        ]
        if self.rows.setdefault(name, fields.placement) != fields.placement:
            self.twice.add(name)
            self.faults.append(
                Fault(line, f"{where}{name} stands in the table twice, with different values")
            )

    def table(self) -> PositionTable:
        rows = {name: row for name, row in self.rows.items() if name not in self.twice}
        lost = [fault for fault in self.faults if fault.is_lost]
        if lost and (self.first_beyond or not rows):
            fault = self.first_beyond or lost[0]
            raise UnreadableTable(self.path, fault.reason, line=fault.line)
        return PositionTable(str(self.path), rows, tuple(self.faults))


def _gather_rows(text: str, table: _Gathered) -> None:
    delimiter = sniff_delimiter(text)
    columns: dict[str, int] | None = None
    width = 0
    for row in read_rows(text, path=table.path, delimiter=delimiter):
        if columns is None:
            if row.fields[0].lstrip().startswith("#"):
                continue
            columns = _find_columns(row, table.path)
            width = len(row.fields)
            continue
        fields = row.fields[:width] + [""] * (width - len(row.fields))
        if any(field.strip() for field in row.fields[width:]) or len(row.fields) <= columns["name"]:
            reason = (
                f"{len(row.fields)} fields where the header has {width}; names that hold "
                f"{delimiter!r} need quotes"
            )
            table.faults.append(Fault(row.line, reason))
            continue
        values = {name: fields[column].strip() for name, column in columns.items()}
        if delimiter != ",":
            values = {
                name: _with_point(value) if name != "name" else value
                for name, value in values.items()
            }
        table.add(values, line=row.line)
    if columns is None:
        raise UnreadableTable(
            table.path, "the table is empty; its first line must name the columns"
        )


def _gather_features(text: str, table: _Gathered) -> None:
    crs, features = read_features(text, path=table.path, titles=_FIELDS)
    for number, values in enumerate(features, start=1):
        if isinstance(values, str):
            table.faults.append(Fault(None, f"feature {number} {values}"))
        else:
            table.add(values, line=None, where=f"feature {number}, ", crs=crs)


def _find_columns(header: Row, path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    titles = [title.strip().lower() for title in header.fields]
    for name, known in _FIELDS.items():
        columns = [column for column, title in enumerate(titles) if title in known]
        if name in _PREFERRED:
            columns = sorted(columns, key=lambda column: known.index(titles[column]))[:1]
        if len(columns) > 1:
            first, second = (header.fields[column] for column in columns[:2])
            raise UnreadableTable(
                path, f"two columns for the {name}: {first!r} and {second!r}", line=header.line
            )
        found.update((name, column) for column in columns)
    if "name" not in found or not any(found.keys() >= set(fields) for fields in _POSITIONS):
        wanted = "a name (such as path), and lat with lon or easting with northing and zone"
        raise UnreadableTable(
            path,
            f"the columns are {', '.join(header.fields)}; needed are {wanted}",
            line=header.line,
        )
    _drop_lesser(found)
    return found


def _drop_lesser(rows: dict[str, int]) -> None:
    """A table's own latitude and longitude say more than a geometry, and that more than x and y,
    which may be anything's."""
    if {"lat", "lon"} <= rows.keys():
        for name in ("wkt", "x", "y"):
            rows.pop(name, None)
    if "wkt" in rows or {"east", "north"} <= rows.keys():
        for name in ("x", "y"):
            rows.pop(name, None)


def _with_point(value: str) -> str:
    """A number with a decimal comma, with a point."""
    whole, comma, rest = value.partition(",")
    return (
        f"{whole}.{rest}"
        if comma and whole.lstrip("+-").isdecimal() and rest.isdecimal()
        else value
    )


def _short(path: str) -> str:
    return os.path.join(*Path(path).parts[-2:])
