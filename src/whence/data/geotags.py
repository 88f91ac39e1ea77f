"""Positions out: XMP sidecars, and GPX 1.1 waypoints. GPS tags inside copies of photos are
`whence.data.exif_gps`.

XMP: ISO 16684-1, with the exif name space of the Exif 2.32 metadata for XMP. GPX: Topografix, GPX
1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from whence.runtime import atomic_write
from whence.types import GeoPoint

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters XML 1.0 cannot hold, not even escaped."""


@dataclass(frozen=True, slots=True)
class Geotag:
    """What is written into a sidecar or a copy."""

    point: GeoPoint
    heading_deg: float | None = None
    error_m: float | None = None
    """Horizontal error; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A photo's place in a GPX file."""

    name: str
    point: GeoPoint
    time: datetime | None = None
    """Written where it states its time zone, since GPX is in UTC."""
    description: str = ""


def sidecar_of(photo: str | Path) -> Path:
    """The sidecar that is written for a photo: the name with the photo's own ending, so a.jpg and
    a.png do not share one."""
    photo = Path(photo)
    return photo.with_name(f"{photo.name}.xmp")


def xmp_sidecar(geotag: Geotag) -> bytes:
    """An XMP sidecar that states a position, as `whence.data.sidecars.read_sidecar` and photo
    managers read it."""
    point = geotag.point
    fields = {
        "GPSVersionID": "2.3.0.0",
        "GPSMapDatum": "WGS-84",
        "GPSLatitude": _xmp_degrees(point.lat, letters="NS"),
        "GPSLongitude": _xmp_degrees(point.lon, letters="EW"),
    }
    if point.altitude_m is not None:
        fields |= {
            "GPSAltitude": f"{round(abs(point.altitude_m) * 1000)}/1000",
            "GPSAltitudeRef": "01"[point.altitude_m < 0],
        }
    if geotag.heading_deg is not None:
        fields |= {
            "GPSImgDirection": f"{round(geotag.heading_deg * 100) % 36000}/100",
            "GPSImgDirectionRef": "T",
        }
    if geotag.error_m is not None:
        fields["GPSHPositioningError"] = f"{round(geotag.error_m * 100)}/100"
    attributes = "".join(f'\n    exif:{name}="{value}"' for name, value in fields.items())
    text = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Whence">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"{attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
    return text.encode()


def gpx_document(waypoints: Iterable[Waypoint], *, track: Iterable[Sequence[Waypoint]] = ()) -> str:
    """Waypoints, and a track in pieces, as a GPX 1.1 document."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<gpx version="1.1" creator="Whence" xmlns="http://www.topografix.com/GPX/1/1">',
        *_gpx_points("wpt", waypoints),
    ]
    pieces = [
        f" <trkseg>\n{chr(10).join(_gpx_points('trkpt', piece))}\n </trkseg>"
        for piece in track
        if len(piece)
    ]
    if pieces:
        lines += ["<trk>", *pieces, "</trk>"]
    return "\n".join([*lines, "</gpx>", ""])


def _gpx_points(kind: str, points: Iterable[Waypoint]) -> list[str]:
    lines = []
    for one in points:
        lines.append(f' <{kind} lat="{one.point.lat:.7f}" lon="{_gpx_lon(one.point.lon):.7f}">')
        if one.point.altitude_m is not None:
            lines.append(f"  <ele>{one.point.altitude_m:.3f}</ele>")
        if one.time is not None and one.time.utcoffset() is not None:
            time = one.time.astimezone(UTC).isoformat(timespec="milliseconds")
            lines.append(f"  <time>{time.replace('+00:00', 'Z')}</time>")
        lines.append(f"  <name>{_xml_text(one.name)}</name>")
        if one.description:
            lines.append(f"  <desc>{_xml_text(one.description)}</desc>")
        lines.append(f" </{kind}>")
    return lines


def write_gpx(
    path: str | Path, waypoints: Iterable[Waypoint], *, track: Iterable[Sequence[Waypoint]] = ()
) -> None:
    """Write waypoints, and a track in pieces, as GPX 1.1, whole or not at all. Raises
    `UnwritableFile`."""
    with atomic_write(path) as file:
        file.write(gpx_document(waypoints, track=track).encode())


def _xmp_degrees(value: float, *, letters: str) -> str:
    """Degrees and minutes with a hemisphere letter, "55,42.5000000N"; rounded before splitting, so
    minutes stay under 60."""
    whole, rest = divmod(round(abs(value) * 60 * 10**7), 60 * 10**7)
    return f"{whole},{rest // 10**7}.{rest % 10**7:07d}{letters[value < 0]}"


def _gpx_lon(lon: float) -> float:
    """GPX takes longitudes in [-180, 180)."""
    return -180.0 if round(lon, 7) >= 180 else lon


def _xml_text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))
