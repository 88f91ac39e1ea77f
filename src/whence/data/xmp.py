"""Positions from XMP packets, beside photos and inside them.

Only properties of the photo itself count: those directly in the packet's descriptions. The places
of IPTC (LocationShown, LocationCreated) and other structures hold members of the same names.
Documents are parsed without document types, so entities cannot expand and nothing outside is read.
Sources: ISO 16684-1, Exif 2.32 metadata for XMP (CIPA DC-010), and DJI's name space.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from xml.parsers import expat

from whence.data.degrees import LATITUDE, LONGITUDE, parse_degrees
from whence.data.numbers import finite_number
from whence.data.placement import Placement
from whence.errors import InvalidPoint, UnreadableTable
from whence.types import GeoPoint

_EXIF_SPACE = "http://ns.adobe.com/exif/1.0/"
_RDF_SPACE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DRONE_SPACE = "http://www.dji.com/drone-dji/1.0/"
_CONTRADICTION = "\0"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def placement_from_xmp(data: bytes, *, path: str | Path, source: str) -> Placement:
    """The placement of an XMP packet; silent where it holds no position. Raises `UnreadableTable`
    where it is broken.

    A drone's own properties (GpsLatitude, GpsLongitude) count where the usual ones are silent.
    """
    fields = _fields(data, path)
    lat, lon = (
        parse_degrees(fields.get(name, ""), axis, ref=fields.get(f"{name}Ref", ""))
        for name, axis in (("GPSLatitude", LATITUDE), ("GPSLongitude", LONGITUDE))
    )
    altitude = _ratio(fields.get("GPSAltitude", ""))
    if altitude is not None and fields.get("GPSAltitudeRef", "").strip() == "1":
        altitude = -abs(altitude)
    if not fields.get("GPSLatitude") and not fields.get("GPSLongitude"):
        lat = parse_degrees(fields.get("drone:GpsLatitude", ""), LATITUDE)
        # The misspelt name is DJI's own, of some models.
        lon = parse_degrees(
            fields.get("drone:GpsLongitude") or fields.get("drone:GpsLongtitude", ""), LONGITUDE
        )
        altitude = _ratio(fields.get("drone:AbsoluteAltitude", ""))
    heading = _ratio(fields.get("GPSImgDirection", ""))
    heading = heading % 360 if heading is not None and abs(heading) <= 360 else None
    error = _ratio(fields.get("GPSHPositioningError", ""))
    point = _point(lat, lon, altitude)
    is_stated = bool(fields.get("GPSLatitude") and fields.get("GPSLongitude"))
    return Placement(
        source=source,
        point=point,
        doubt="its XMP states a position that is none, or contradicts itself"
        if is_stated and point is None
        else "",
        heading_deg=heading,
        heading_is_magnetic=heading is not None
        and fields.get("GPSImgDirectionRef", "").strip().upper() == "M",
        error_m=error if error is not None and error >= 0 else None,
        time=_iso_time(fields.get("DateTimeOriginal", ""))
        or _iso_time(fields.get("DateTimeDigitized", "")),
    )


def _point(lat: float | None, lon: float | None, altitude_m: float | None) -> GeoPoint | None:
    try:
        return None if lat is None or lon is None else GeoPoint(lat, lon, altitude_m)
    except InvalidPoint:
        return None


class _Reader:
    """Collects simple properties of the photo, written as attributes or as elements; a property
    stated twice must agree."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.inside: list[str] = []
        self.rdf_depth: int | None = None
        self.is_simple = False
        self.text = ""
        # The encoding is stated because what it reads has been decoded, whatever the document
        # declares.
        self.parser = expat.ParserCreate(namespace_separator=" ")

    def read(self, data: bytes, *, encoding: str | None) -> Mapping[str, str]:
        self.parser = parser = expat.ParserCreate(encoding, namespace_separator=" ")
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._add_text
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise UnreadableTable(
                self.path, f"not XML: {expat.ErrorString(error.code)}", line=error.lineno
            ) from None
        except (ValueError, LookupError) as error:
            raise UnreadableTable(self.path, f"not XML: {error}") from None
        return {name: value for name, value in self.fields.items() if value != _CONTRADICTION}

    def _refuse(self, *_: object) -> None:
        line = self.parser.CurrentLineNumber
        raise UnreadableTable(
            self.path, "it declares a document type, which no XMP sidecar needs", line=line
        )

    def _level(self) -> int:
        """How deep the innermost element lies below rdf:RDF; 1 is a description, 2 a property. 0
        outside."""
        return 0 if self.rdf_depth is None else len(self.inside) - self.rdf_depth

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.inside.append(name)
        if self.rdf_depth is None and name == f"{_RDF_SPACE} RDF":
            self.rdf_depth = len(self.inside)
        elif self._level() == 1 and name == f"{_RDF_SPACE} Description":
            for key, value in attributes.items():
                self._put(key, value)
        elif self._level() == 2:
            self.is_simple, self.text = True, ""
        elif self._level() > 2:
            self.is_simple = False

    def _add_text(self, value: str) -> None:
        if self._level() == 2:
            self.text += value

    def _end(self, name: str) -> None:
        if self._level() == 2 and self.is_simple and self.inside[-2] == f"{_RDF_SPACE} Description":
            self._put(name, self.text)
        if self._level() == 2:
            self.is_simple = False
        self.inside.pop()
        if self.rdf_depth is not None and len(self.inside) < self.rdf_depth:
            self.rdf_depth = None

    def _put(self, key: str, value: str) -> None:
        space, _, field = key.partition(" ")
        if space not in (_EXIF_SPACE, _DRONE_SPACE):
            return
        field, value = field if space == _EXIF_SPACE else f"drone:{field}", value.strip()
        if self.fields.setdefault(field, value) != value:
            self.fields[field] = _CONTRADICTION


def _fields(data: bytes, path: str | Path) -> Mapping[str, str]:
    encoding = next(
        (name for mark, name in _MARKS if data.startswith(mark)), None
    ) or _encoding_by_zeros(data[:4])
    if encoding is None:
        return _Reader(path).read(data.strip(b"\0 \r\n\t"), encoding=None)
    try:
        text = data[: len(data) // 2 * 2 if "16" in encoding else len(data)].decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableTable(path, f"not XML: it begins as {encoding} and is none") from None
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text.strip("\ufeff\0 \r\n\t"))
    return _Reader(path).read(text.strip().encode(), encoding="utf-8")


def _encoding_by_zeros(start: bytes) -> str | None:
    """The encoding of text without a byte order mark, by the zeros beside its first characters;
    None for one byte a character."""
    known = {"x0x0": "utf-16-le", "0x0x": "utf-16-be", "x000": "utf-32-le", "000x": "utf-32-be"}
    return known.get("".join("x" if byte else "0" for byte in start))


def _ratio(text: str) -> float | None:
    """A number written "12.5" or "125/10"; None for 0/0 and anything else."""
    above, slash, below = text.partition("/")
    numerator, denominator = finite_number(above), finite_number(below) if slash else 1.0
    return None if numerator is None or not denominator else numerator / denominator


def _iso_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None
