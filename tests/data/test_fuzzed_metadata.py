"""Hostile and odd files by the hundred: no traceback, and no position that the file does not state.

Every generator knows what it wrote: a statement is either faithful, in one of the forms in use, or
spoilt in one way; then there must be no position at all, or an error of the tree.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyproj
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tagged import at, exif_of, picture_bytes, save_photo, takeout, with_packet, xmp
from whence.data.clocks import parse_exif_time
from whence.data.degrees import LATITUDE, parse_degrees
from whence.data.exif import placement_from_exif
from whence.data.metadata import read_metadata
from whence.data.names import parse_name
from whence.data.positions import read_positions
from whence.data.rows import parse_time
from whence.data.scan import scan_photos
from whence.data.sidecars import read_sidecar
from whence.errors import UnreadableImage, UnreadableTable
from whence.types import GeoPoint

fuzzed = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
JPEG = picture_bytes("JPEG")
Coordinates = tuple[float, float]


def rounded(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda value: round(value, 6))


PLACES = st.tuples(rounded(-89.9, 89.9), rounded(-179.9, 179.9)).filter(
    lambda place: max(map(abs, place)) > 1e-3
)
UTM_PLACES = st.tuples(rounded(-79.0, 83.0), rounded(-179.9, 179.9)).filter(
    lambda place: abs(place[0]) > 0.01
)


def is_at(point: GeoPoint | None, place: Coordinates, *, within: float = 2e-6) -> bool:
    return (
        point is not None
        and abs(point.lat - place[0]) <= within
        and abs(point.lon - place[1]) <= within
    )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def sexagesimal(value: float) -> tuple[int, int, float]:
    """Degrees, minutes, and seconds that may round up to 60, as scripts write them."""
    size = abs(value)
    whole = int(size)
    minutes = int((size - whole) * 60)
    return whole, minutes, round(((size - whole) * 60 - minutes) * 60, 4)


# ---- EXIF ----------------------------------------------------------------------------------------


@st.composite
def exif_axis(draw: st.DrawFn, value: float, letters: str) -> tuple[object, object]:
    """The reference and the numbers of one axis, in a form that cameras and scripts write."""
    letter = letters[value < 0]
    word = {"N": "North", "S": "South", "E": "East", "W": "West"}[letter]
    ref = draw(st.sampled_from([letter, letter.lower(), f"{letter}\0", word, letter.encode()]))
    whole, minutes, seconds = sexagesimal(value)
    sign = -1 if value < 0 and draw(st.booleans()) else 1
    numbers = draw(
        st.sampled_from(
            [
                (float(sign * whole), float(minutes), seconds),
                (sign * whole, minutes, IFDRational(round(seconds * 10_000), 10_000)),
                (float(sign * whole), minutes + seconds / 60),
                (sign * abs(value),),
                (sign * abs(value), 0.0, 0.0),
                sign * abs(value),
            ]
        )
    )
    return ref, numbers


EXIF_FAULTS = {
    "no reference": {1: None},
    "reference of the other axis": {1: "E"},
    "no longitude": {4: None},
    "senseless reference": {3: "?"},
    "minutes": {2: (10.0, 61.0, 0.0)},
    "seconds": {4: (10.0, 0.0, 60.5)},
    "minus inside": {2: (10.0, -1.0, 0.0)},
    "minus and north": {1: "N", 2: (-10.0, 0.0, 0.0)},
    "minus and east": {3: "E", 4: (-10.0, 0.0, 0.0)},
    "beyond the pole": {1: "N", 2: (90.0, 0.0, 1.0)},
    "beyond the line": {3: "E", 4: (180.0, 0.0, 1.0)},
    "no number": {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
    "infinite": {2: (math.inf, 0.0, 0.0)},
    "text": {2: "59,19,30"},
    "four numbers": {2: (1.0, 2.0, 3.0, 4.0)},
    "nothing": {4: ()},
}


@fuzzed
@given(st.data(), PLACES, st.none() | st.sampled_from(sorted(EXIF_FAULTS)))
def test_exif(data: st.DataObject, place: Coordinates, fault: str | None) -> None:
    (lat_ref, lat), (lon_ref, lon) = (
        data.draw(exif_axis(place[0], "NS")),
        data.draw(exif_axis(place[1], "EW")),
    )
    tags: dict[int, object] = {1: lat_ref, 2: lat, 3: lon_ref, 4: lon}
    if fault is not None:
        tags = {
            tag: value for tag, value in {**tags, **EXIF_FAULTS[fault]}.items() if value is not None
        }
    point = placement_from_exif(exif_of(tags)).point
    assert point is None if fault is not None else is_at(point, place)


@fuzzed
@given(
    st.dictionaries(
        st.integers(0, 40),
        st.binary(max_size=8)
        | st.text(max_size=8)
        | st.integers()
        | st.floats()
        | st.tuples(st.floats(), st.floats(), st.floats()),
        max_size=12,
    ),
    st.binary(max_size=60),
)
def test_senseless_exif_never_fails(tags: dict[int, object], block: bytes) -> None:
    placed = placement_from_exif(exif_of({**tags, 1: b"\xff"}))
    assert placed.point is None
    with folder() as made:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + block)
        (made / "a.jpg").write_bytes(file.getvalue())
        assert read_metadata(made / "a.jpg").width == 8


# ---- XMP -----------------------------------------------------------------------------------------


@st.composite
def xmp_axis(draw: st.DrawFn, value: float, name: str, letters: str) -> dict[str, str]:
    """The properties of one axis, in a form that programs write."""
    letter, size = letters[value < 0], abs(value)
    whole, minutes, seconds = sexagesimal(value)
    return draw(
        st.sampled_from(
            [
                {name: f"{whole},{(size - whole) * 60:.8f}{letter}"},
                {name: f"{whole},{minutes},{seconds}{letter.lower()}"},
                {name: f"{size:.8f}{letter}"},
                {name: f"{size:.8f}", f"{name}Ref": letter},
                {name: f"{value:.8f}"},
                {name: f"{value:+.8f}", f"{name}Ref": letter},
                {name: f"{whole} deg {minutes}' {seconds}\" {letter}"},
            ]
        )
    )


XMP_FAULTS = {
    "letters against reference": {"GPSLatitude": "10,0N", "GPSLatitudeRef": "S"},
    "other axis": {"GPSLatitude": "10,0E"},
    "minutes": {"GPSLongitude": "10,60.5E"},
    "beyond the pole": {"GPSLatitude": "90,0.001N"},
    "no letter": {"GPSLatitude": "10,30.5", "GPSLatitudeRef": ""},
    "minus and north": {"GPSLatitude": "-10.5", "GPSLatitudeRef": "N"},
    "text": {"GPSLongitude": "unknown"},
    "empty": {"GPSLongitude": "", "GPSLongitudeRef": ""},
    "no number": {"GPSLatitude": "0/0"},
}
SHOWN = (
    "<Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li "
    "rdf:parseType='Resource'><exif:GPSLatitude>1,1N</exif:GPSLatitude>"
    "<exif:GPSLongitude>2,2E</exif:GPSLongitude></rdf:li></rdf:Bag></Iptc4xmpExt:LocationShown>"
)


@st.composite
def packets(draw: st.DrawFn, place: Coordinates, fault: str | None) -> str:
    """An XMP packet that states a place, or is spoilt."""
    fields = {
        **draw(xmp_axis(place[0], "GPSLatitude", "NS")),
        **draw(xmp_axis(place[1], "GPSLongitude", "EW")),
    }
    if fault is not None:
        fields |= XMP_FAULTS[fault]
    as_elements = draw(st.booleans())
    escaped = {name: value.replace('"', "&quot;") for name, value in fields.items()}
    attributes = " ".join(f'exif:{name}="{value}"' for name, value in escaped.items())
    elements = "".join(f"<exif:{name}>\n {value}</exif:{name}>" for name, value in escaped.items())
    shown = draw(st.sampled_from(["", SHOWN]))
    return xmp("", shown + elements) if as_elements else xmp(attributes, shown)


@fuzzed
@given(
    st.data(),
    PLACES,
    st.none() | st.sampled_from(sorted(XMP_FAULTS)),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    st.sampled_from(["", "inside", "cut", "doctype"]),
)
def test_xmp(
    data: st.DataObject, place: Coordinates, fault: str | None, encoding: str, how: str
) -> None:
    packet = data.draw(packets(place, fault))
    if how == "cut":
        packet = packet[: data.draw(st.integers(0, len(packet) - 1))]
    if how == "doctype":
        packet = "<!DOCTYPE x [<!ENTITY a 'b'>]>" + packet
    with folder() as made:
        if how == "inside":
            (made / "a.jpg").write_bytes(with_packet(JPEG, packet))
            point = read_metadata(made / "a.jpg").point
        else:
            (made / "a.xmp").write_bytes(packet.encode(encoding))
            try:
                point = read_sidecar(made / "a.xmp").point
            except UnreadableTable:
                assert how in ("cut", "doctype")
                return
    assert point is None if fault is not None else is_at(point, place)


# ---- names ---------------------------------------------------------------------------------------


def utm_of(place: Coordinates) -> tuple[float, float, int, str]:
    """East, north, zone number and band, by PROJ itself."""
    number = int((place[1] + 180) // 6) + 1
    code = (32600 if place[0] >= 0 else 32700) + number
    east, north = pyproj.Transformer.from_crs(4326, code, always_xy=True).transform(
        place[1], place[0]
    )
    return east, north, number, "CDEFGHJKLMNPQRSTUVWX"[min(int((place[0] + 80) // 8), 19)]


NAME_FORMS = ("band", "hemisphere", "number", "zeros", "degrees", "free")
NAME_FAULTS = ("degrees alone", "other hemisphere", "other zone", "other band")


@fuzzed
@given(
    UTM_PLACES, st.sampled_from(NAME_FORMS + NAME_FAULTS), st.sampled_from(["", "p", "@", "[x]"])
)
def test_names(place: Coordinates, form: str, note: str) -> None:
    (lat, lon), (east, north, number, band) = place, utm_of(place)
    beside = f"{lat:.6f}@{lon:.6f}"
    metres = f"{east:010.2f}@{north:010.2f}"
    # A band far from the northing, in the same hemisphere; of the other one it would be a statement
    # of its own.
    other_band = ("Q" if lat > 30 else "W") if lat > 0 else ("K" if lat < -50 else "D")
    other_zone = (number + 29) % 60 + 1
    start = {
        "band": f"{metres}@{number}@{band}@@",
        "hemisphere": f"{metres}@{number}@{'S' if lat < 0 else 'N'}@{beside}",
        "number": f"{metres}@{number:02d}@@{beside}",
        "zeros": f"0@0@{number}@{band}@{beside}",
        "degrees": f"{lat}@{lon}@@@{beside}",
        "free": f"123456.78@654321.09@@@{beside}",
        "degrees alone": f"{lat}@{lon}@@@@",
        "other hemisphere": f"{metres}@{number}@{band}@{-lat:.6f}@{lon:.6f}",
        "other zone": f"{metres}@{other_zone}@{band}@{beside}",
        "other band": f"{metres}@{number}@{other_band}@@",
    }[form]
    fields = parse_name(f"@{start}@{note}@@@@@@@@@.jpg")
    assert fields is not None
    if form in NAME_FAULTS:
        assert (fields.point, fields.plane) == (None, None)
    else:
        assert is_at(fields.point, place, within=1e-5 / max(math.cos(math.radians(lat)), 0.1))


# ---- tables --------------------------------------------------------------------------------------

COLUMNS = (
    "file",
    "lat",
    "lon",
    "GPSLatitudeRef",
    "GPSLongitudeRef",
    "easting",
    "northing",
    "zone",
    "hemisphere",
    "time",
)
ROW_FORMS = (
    "degrees",
    "signed words",
    "references",
    "sexagesimal",
    "band",
    "hemisphere",
    "number",
    "epsg",
    "both",
)
ROW_FAULTS = (
    "half",
    "text",
    "against reference",
    "beyond",
    "not finite",
    "no zone",
    "other hemisphere",
    "both contradict",
)


def cells_of(place: Coordinates, form: str) -> dict[str, str]:
    """The cells of a row that states a place in some form, or is spoilt."""
    (lat, lon), (east, north, number, band) = place, utm_of(place)
    (d0, m0, s0), (d1, m1, s1) = sexagesimal(lat), sexagesimal(lon)
    lat_letter, lon_letter = "NS"[lat < 0], "EW"[lon < 0]
    metres = {"easting": f"{east:.3f}", "northing": f"{north:.3f}"}
    plain = {"lat": f"{lat}", "lon": f"{lon}"}
    return {
        "degrees": plain,
        "signed words": {
            "lat": f"{abs(lat)} {lat_letter}",
            "lon": f"{lon_letter} {abs(lon)}\u00b0",
        },
        "references": {
            "lat": f"{abs(lat)}",
            "lon": f"{lon}",
            "GPSLatitudeRef": lat_letter,
            "GPSLongitudeRef": lon_letter,
        },
        "sexagesimal": {
            "lat": f"{d0} deg {m0}' {s0}\" {lat_letter}",
            "lon": f"{d1}\u00b0{m1}'{s1}\"{lon_letter}",
        },
        "band": {**metres, "zone": f"{number}{band}"},
        "hemisphere": {**metres, "zone": f"{number}", "hemisphere": lat_letter},
        "number": {**metres, "zone": f"{number}", **plain},
        "epsg": {**metres, "zone": f"EPSG:{(32700 if lat < 0 else 32600) + number}"},
        "both": {**metres, "zone": f"{number}{lat_letter}", **plain},
        "half": {"lat": f"{lat}"},
        "text": {"lat": "here", "lon": f"{lon}"},
        "against reference": {"lat": f"{lat:+}", "lon": f"{lon}", "GPSLatitudeRef": "NS"[lat > 0]},
        "beyond": {"lat": f"{lat}", "lon": "181.5"},
        "not finite": {"lat": "nan", "lon": "inf"},
        "no zone": metres,
        "other hemisphere": {**metres, "zone": f"{number}", "hemisphere": "NS"[lat > 0], **plain},
        "both contradict": {**metres, "zone": f"{number}{band}", "lat": f"{-lat}", "lon": f"{lon}"},
    }[form]


@fuzzed
@given(
    st.lists(
        st.tuples(UTM_PLACES, st.sampled_from(ROW_FORMS + ROW_FAULTS)), min_size=1, max_size=8
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["", "sep"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv(
    rows: list[tuple[Coordinates, str]], delimiter: str, first: str, encoding: str, end: str
) -> None:
    lines = [f"sep={delimiter}"] if first else []
    lines.append(delimiter.join(COLUMNS))
    for number, (place, form) in enumerate(rows):
        cells = {"file": f"p\\{number}.jpg", "time": "who knows", **cells_of(place, form)}
        quoted = ['"' + cells.get(column, "").replace('"', '""') + '"' for column in COLUMNS]
        lines.append(delimiter.join(quoted))
    with folder() as made:
        (made / "t.csv").write_bytes((end.join(lines) + end).encode(encoding))
        if all(form in ROW_FAULTS for _, form in rows):
            with pytest.raises(UnreadableTable) as caught:
                read_positions(made / "t.csv")
            assert caught.value.line == len(lines) - len(rows) + 1
            return
        table = read_positions(made / "t.csv")
    for number, (place, form) in enumerate(rows):
        found = table.find(f"/x/p/{number}.jpg")
        if form in ROW_FAULTS:
            assert found is None
        else:
            assert found is not None
            assert is_at(
                found.point, place, within=1e-5 / max(math.cos(math.radians(place[0])), 0.1)
            )
    assert sum(fault.is_lost for fault in table.faults) == sum(
        form in ROW_FAULTS for _, form in rows
    )


# ---- all together --------------------------------------------------------------------------------

SOURCES = ("table", "xmp", "second xmp", "takeout", "name", "exif", "inside")
STATES = st.sampled_from(["states", "zero", "silent", "broken"])


@settings(fuzzed, max_examples=100)
@given(st.lists(PLACES, min_size=7, max_size=7), st.tuples(*[STATES] * 7))
def test_the_first_source_that_states_a_position_is_believed(
    places: list[Coordinates], states: tuple[str, ...]
) -> None:
    """Every source stands in a state of its own; what comes out is the first that states a place,
    or nothing."""
    said = {
        source: (state, (0.0, 0.0) if state == "zero" else place)
        for source, state, place in zip(SOURCES, states, places, strict=True)
    }
    expected = next((place for state, place in said.values() if state == "states"), None)

    def packet(source: str) -> str:
        state, (lat, lon) = said[source]
        stated = {"broken": "<x", "silent": xmp()}
        return stated.get(state, xmp(f'exif:GPSLatitude="{lat:.8f}" exif:GPSLongitude="{lon:.8f}"'))

    state, (lat, lon) = said["name"]
    name = {"silent": "a.jpg", "broken": "@1.5@2.5@.jpg"}.get(
        state, f"@0@0@@@{lat:.6f}@{lon:.6f}@@@@@@@@@.jpg"
    )
    with folder() as made:
        state, place = said["exif"]
        gps = {"silent": {}, "broken": {**at(*place), 1: "?"}}.get(state, at(*place))
        photo = save_photo(made / name, gps)
        photo.write_bytes(with_packet(photo.read_bytes(), packet("inside")))
        (made / f"{name}.XMP").write_text(packet("xmp"))
        (made / f"{photo.stem}.xmp").write_text(packet("second xmp"))
        state, place = said["takeout"]
        (made / f"{name}.suppl.json").write_text(
            {"silent": "{}", "broken": "{"}.get(state, takeout(*place))
        )
        state, (lat, lon) = said["table"]
        cells = {"silent": ",", "broken": "x,y"}.get(state, f"{lat},{lon}")
        (made / "t.csv").write_text(f"file,lat,lon\n{name},{cells}\nother.jpg,1,1\n")
        positions = None if state == "broken" else made / "t.csv"
        (found,) = scan_photos(made, positions=positions, show_progress=False)
    assert found.point is None if expected is None else is_at(found.point, expected)


@fuzzed
@given(
    st.binary(max_size=200),
    st.text(max_size=80),
    st.text("0123456789.,-+NSEW'\"\u00b0 degn/e:", max_size=30),
)
def test_anything_at_all_is_read_or_refused(data: bytes, text: str, number: str) -> None:
    degrees = parse_degrees(number, LATITUDE)
    assert degrees is None or abs(degrees) <= 90
    parse_degrees(text, LATITUDE, ref=number)
    parse_name(text)
    parse_time(number)
    parse_exif_time(number)
    table = (
        f"file,lat,lon,time,zone,easting,northing\n{text},{number},{number},{text},{number},"
        f"{number},{number}\n"
    )
    feature = {
        "geometry": {"type": "Point", "coordinates": [number, text]},
        "properties": {"path": text, "time": number},
    }
    files: dict[str, bytes] = {
        "a.csv": table.encode("utf-8", "surrogatepass"),
        "b.csv": data,
        "a.geojson": json.dumps({"features": [feature, text]}).encode(),
        "b.geojson": data,
        "a.xmp": data,
        "a.json": data,
        "b.json": text.encode("utf-8", "surrogatepass"),
    }
    with folder() as made:
        for name, content in files.items():
            (made / name).write_bytes(content)
            with contextlib.suppress(UnreadableTable):
                (read_sidecar if name.endswith((".xmp", ".json")) else read_positions)(made / name)
        (made / "a.jpg").write_bytes(data)
        with contextlib.suppress(UnreadableImage, UnreadableTable):
            read_metadata(made / "a.jpg")
