"""Positions, headings and times: EXIF, tables, sidecars, names, and which of them is believed."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tagged import exif_of, save_photo, takeout
from whence.data.exif import placement_from_exif
from whence.data.metadata import read_metadata
from whence.data.names import format_name
from whence.data.photos import Photos
from whence.data.placement import Placement, merge_placements
from whence.data.positions import read_positions
from whence.data.sidecars import find_sidecar, read_sidecar
from whence.errors import UnreadableImage, UnreadableTable
from whence.types import GeoPoint, PlanePoint

LUND = {1: "N", 2: (55.0, 42.0, 30.0), 3: "E", 4: (13.0, 11.0, 43.4)}
LUND_LAT, LUND_LON = 55 + 42 / 60 + 30 / 3600, 13 + 11 / 60 + 43.4 / 3600


def point_of(gps: dict[int, object]) -> GeoPoint | None:
    return placement_from_exif(exif_of(gps)).point


def test_point_through_a_file(tmp_path: Path) -> None:
    photo = read_metadata(
        save_photo(tmp_path / "a.jpg", {**LUND, 5: b"\0", 6: 37.5, 16: "T", 17: 271.25, 31: 4.5})
    )
    assert photo.point is not None
    assert np.isclose(photo.point.lat, LUND_LAT, atol=1e-9)
    assert np.isclose(photo.point.lon, LUND_LON, atol=1e-7)
    assert photo.point.altitude_m == 37.5
    assert photo.point_source == "exif"
    assert (photo.heading_deg, photo.heading_is_magnetic, photo.error_m) == (271.25, False, 4.5)
    assert (photo.width, photo.height) == (30, 20)
    assert photo.size_bytes == (tmp_path / "a.jpg").stat().st_size
    assert photo.mtime_ns == (tmp_path / "a.jpg").stat().st_mtime_ns
    assert len(photo.content) == 32


@pytest.mark.parametrize(
    ("lat_ref", "lon_ref"), [("N", "E"), ("S", "W"), ("s", "w"), ("S\0", "East"), (b"N", b"W")]
)
def test_hemispheres(lat_ref: str | bytes, lon_ref: str | bytes) -> None:
    letters = [
        (ref.decode() if isinstance(ref, bytes) else ref)[0].upper() for ref in (lat_ref, lon_ref)
    ]
    point = point_of({**LUND, 1: lat_ref, 3: lon_ref})
    assert point is not None
    assert np.isclose(point.lat, LUND_LAT if letters[0] == "N" else -LUND_LAT)
    assert np.isclose(point.lon, LUND_LON if letters[1] == "E" else -LUND_LON)


@settings(max_examples=200, deadline=None)
@given(st.floats(-89.99, 89.99), st.floats(-179.99, 179.99))
def test_degrees_minutes_seconds_round_trip(lat: float, lon: float) -> None:
    def parts(value: float) -> tuple[float, float, float]:
        tenths = round(abs(value) * 36_000_000)
        return tenths // 36_000_000, tenths // 600_000 % 60, tenths % 600_000 / 10_000

    point = point_of(
        {1: "N" if lat >= 0 else "S", 2: parts(lat), 3: "E" if lon >= 0 else "W", 4: parts(lon)}
    )
    assert point is not None
    assert abs(point.lat - lat) < 1e-7
    assert abs(point.lon - lon) < 1e-7


@pytest.mark.parametrize(
    "change",
    [
        {1: None},
        {3: None},
        {1: "X"},
        {2: None},
        {4: ()},
        {2: (55.0, 61.0, 0.0)},
        {2: (55.0, 0.0, 60.1)},
        {2: (89.0, 60.0, 60.0)},
        {2: (55.0, -1.0, 0.0)},
        {2: (-55.0, 42.0, 30.0)},
        {2: (91.0, 0.0, 0.0)},
        {4: (180.0, 0.0, 1.0)},
        {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {4: (IFDRational(13), IFDRational(11), IFDRational(0, 0))},
        {2: "55,42,30"},
        {2: (1.0, 2.0, 3.0, 4.0)},
        {2: (float("inf"), 0.0, 0.0)},
    ],
)
def test_senseless_tags_are_no_point(change: dict[int, object]) -> None:
    tags = {tag: value for tag, value in {**LUND, **change}.items() if value is not None}
    assert point_of(tags) is None


def test_decimal_degrees_and_null_island() -> None:
    assert point_of({1: "N", 2: (55.5,), 3: "E", 4: 13.25}) == GeoPoint(55.5, 13.25)
    assert point_of({1: "N", 2: (55.0, 42.5), 3: "E", 4: (13.0, 0.0, 0.0)}) == GeoPoint(
        55 + 42.5 / 60, 13.0
    )
    assert point_of({1: "S", 2: (-55.5,), 3: "E", 4: (13.25,)}) == GeoPoint(-55.5, 13.25)
    zero = {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}
    assert point_of(zero) is None
    assert point_of({**zero, 1: "N", 3: "E"}) == GeoPoint(0.0, 0.0)


@pytest.mark.parametrize(
    ("ref", "sign"), [(b"\0", 1), (b"\1", -1), (1, -1), (0, 1), (None, 1), (b"\3", -1), (b"\2", 1)]
)
def test_altitude_below_sea_level(ref: object, sign: int) -> None:
    tags = {**LUND, 6: 431.0} | ({} if ref is None else {5: ref})
    point = point_of(tags)
    assert point is not None
    assert point.altitude_m == sign * 431.0
    point = point_of({**LUND, 6: IFDRational(0, 0)})
    assert point is not None
    assert point.altitude_m is None


@pytest.mark.parametrize(
    ("value", "heading"),
    [(359.9, 359.9), (360.0, 0.0), (-90.0, 270.0), (721.0, None), (IFDRational(0, 0), None)],
)
def test_heading(value: object, heading: float | None) -> None:
    placement = placement_from_exif(exif_of({16: "M", 17: value}))
    assert placement.heading_deg == heading
    assert placement.heading_is_magnetic == (heading is not None)


def test_time_precedence() -> None:
    gps = {7: (12.0, 30.0, 15.5), 29: "2024:05:31"}
    original = {0x9003: "2024:05:31 14:30:20"}
    stamp = datetime(2024, 5, 31, 12, 30, 15, 500_000, tzinfo=UTC)
    time_of = lambda *blocks: placement_from_exif(exif_of(*blocks)).time  # noqa: E731
    zoned = time_of(gps, {**original, 0x9291: "25", 0x9011: "+02:00"})
    assert zoned == datetime(2024, 5, 31, 14, 30, 20, 250_000, tzinfo=timezone(timedelta(hours=2)))
    assert time_of(gps, {**original, 0x9011: "-03:30"}).utcoffset() == -timedelta(
        hours=3, minutes=30
    )
    assert time_of(gps, original) == stamp
    assert time_of({}, {**original, 0x9291: "5"}) == datetime(2024, 5, 31, 14, 30, 20, 500_000)
    assert time_of(gps) == stamp
    for broken in ({7: (25.0, 0.0, 0.0)}, {29: "0000:00:00"}, {7: (1.0, 2.0)}, {29: b"\xff"}):
        assert time_of({**gps, **broken}, original) == datetime(2024, 5, 31, 14, 30, 20)
    for broken in ("    :  :     :  :  ", "0000:00:00 00:00:00", "yesterday"):
        assert time_of({}, {0x9003: broken}) is None
    for broken in ("+2:00", "02:00", "+99:00", "+02:99", "+0b:00"):
        assert time_of({}, {**original, 0x9011: broken}).tzinfo is None


def test_corrupt_exif_never_fails_the_photo(tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.jpg", LUND)
    data = path.read_bytes()
    start = data.index(b"Exif\0\0")
    length = int.from_bytes(data[start - 2 : start], "big") - 8
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for place in start + 6 + rng.integers(0, length, 3):
            broken[place] = rng.integers(256)
        path.write_bytes(bytes(broken))
        photo = read_metadata(path)
        assert {photo.width, photo.height} == {20, 30}


def test_times_at_the_ends_of_the_calendar_are_none(tmp_path: Path) -> None:
    for text in ("0001:01:01 00:00:00", "9999:12:31 23:59:59"):
        photo = read_metadata(save_photo(tmp_path / "a.jpg", {}, {0x9003: text, 0x9011: "+02:00"}))
        assert photo.time is None
        assert Photos.of([photo])[0] == photo


def test_no_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(UnreadableImage, match=r"a\.jpg"):
        read_metadata(tmp_path / "a.jpg")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding, newline="")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = [
        ["Filename", "LATITUDE", "Lng", "comment", "Alt", "Bearing", "Timestamp"],
        ["a.jpg", "55.5", "13.25", "x", "12", "-90", "2024-05-31T14:03:00+02:00"],
        ["sub/ü b.jpg", "-33", "151", "", "", "", "2024:05:31 14:03:00"],
        [f'"with{separator}separator.jpg"', "1", "2", "", "", "720.5", ""],
        ["no position.jpg", "", "", "", "", "10", ""],
    ]
    table = read_positions(
        write(
            tmp_path / "t.csv",
            "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n",
            encoding,
        )
    )
    assert table.find("/photos/a.jpg") == Placement(
        "csv",
        GeoPoint(55.5, 13.25, 12.0),
        None,
        270.0,
        time=datetime(2024, 5, 31, 14, 3, tzinfo=timezone(timedelta(hours=2))),
    )
    assert table.find("/photos/sub/ü b.jpg") == Placement(
        "csv", GeoPoint(-33.0, 151.0), time=datetime(2024, 5, 31, 14, 3)
    )
    assert table.find(f"with{separator}separator.jpg") == Placement(
        "csv", GeoPoint(1.0, 2.0), None, 0.5
    )
    assert table.find("no position.jpg") == Placement("csv", heading_deg=10.0)
    assert table.find("/photos/other/ü b.jpg") is None
    assert table.find("/photos/xa.jpg") is None


def test_csv_names_from_any_folder_above(tmp_path: Path) -> None:
    text = "path,lat,lon\n./a/1.jpg,1,1\nb\\1.jpg,2,2\n/abs/a/1.jpg,3,3\n1.jpg,4,4\n"
    table = read_positions(write(tmp_path / "t.csv", text))
    expected = {"/x/a/1.jpg": 1, "/x/b/1.jpg": 2, "/abs/a/1.jpg": 3, "/x/c/1.jpg": 4}
    for photo, lat in expected.items():
        found = table.find(photo)
        assert found is not None
        assert found.point is not None
        assert found.point.lat == lat


def test_csv_in_metres_and_with_decimal_commas(tmp_path: Path) -> None:
    placement = read_positions(
        write(tmp_path / "m.csv", "name,easting,northing,zone\na,386000.5,6173000,33 u\n")
    ).find("a")
    assert placement is not None
    assert placement.plane == PlanePoint(386000.5, 6173000.0, "33U")
    assert placement.point is not None
    assert abs(placement.point.lat - 55.69) < 0.02
    assert abs(placement.point.lon - 13.19) < 0.02
    placement = read_positions(
        write(tmp_path / "c.csv", "name;lat;lon\na,b.jpg;55,5;13,25\n")
    ).find("a,b.jpg")
    assert placement == Placement("csv", GeoPoint(55.5, 13.25))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "empty"),
        ("lat,lon\n1,2\n", 1, "needed are a name"),
        ("path,lat\na,1\n", 1, "needed are"),
        ("path,lat,latitude,lon\n", 1, "two columns"),
        ("path,lat,lon\n\nb,x,2\n", 3, "lat is 'x'"),
        ("path,lat,lon\n\n\nb,1,\n", 4, "both"),
        ("path,lat,lon\na,91,2\n", 2, "not a place on Earth"),
        ("path,lat,lon\na,1,181\n", 2, "between -180 and 180"),
        ("path,lat,lon\na,nan,2\n", 2, "not a number"),
        ("path,lat,lon\na,b,1,2\n", 2, "need quotes"),
        ("path,lat,lon\n,1,2\n", 2, "without a photo name"),
        ("path,lat,lon\na,1,2\na,1,3\n", 3, "twice"),
        ('path,lat,lon\n"a,1,2\n', 2, "unexpected end"),
        ("path,easting,northing,zone\na,1,2,99X\n", 2, "UTM zone"),
        ("path,easting,northing,zone\na,1,2,\n", 2, "need a zone"),
    ],
)
def test_broken_csv_names_the_line(
    tmp_path: Path, text: str, line: int | None, reason: str
) -> None:
    with pytest.raises(UnreadableTable, match=reason) as caught:
        read_positions(write(tmp_path / "t.csv", text))
    assert caught.value.line == line


def test_tables_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("path,lat,lon\nå,1,2\n".encode("latin-1"))
    for path in (tmp_path / "latin.csv", tmp_path / "missing.csv", tmp_path):
        with pytest.raises(UnreadableTable):
            read_positions(path)


def feature(coordinates: object, kind: str = "Point", **properties: object) -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


def test_geojson(tmp_path: Path) -> None:
    features = [
        feature([13.25, 55.5, 7], Filename="a.jpg", heading=90, time="2024-05-31T14:03:00Z"),
        feature([151, -33], photo="b.jpg", name="not this one"),
        {"type": "Feature", "geometry": None, "properties": {"path": "c.jpg", "heading": 10}},
    ]
    table = read_positions(
        write(
            tmp_path / "t.geojson", json.dumps({"type": "FeatureCollection", "features": features})
        )
    )
    stamp = datetime(2024, 5, 31, 14, 3, tzinfo=UTC)
    assert table.find("x/a.jpg") == Placement(
        "geojson", GeoPoint(55.5, 13.25, 7.0), None, 90.0, time=stamp
    )
    assert table.find("c.jpg") == Placement("geojson", heading_deg=10.0)
    assert table.find("not this one") == Placement("geojson", GeoPoint(-33.0, 151.0))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not"),
        ({"type": "FeatureCollection"}, "FeatureCollection"),
        ({"features": [feature([1, 2])]}, "feature 1 names no photo"),
        ({"features": [feature([[1, 2]], "LineString", path="a")]}, "not a Point"),
        ({"features": [feature(["x", 2], path="a")]}, "not a number"),
        (
            {"features": [feature([18, 59], path="a")], "crs": {"type": "name", "properties": {}}},
            "WGS84",
        ),
        ({"features": [feature([13, 95], path="a")]}, "not a place on Earth"),
        ({"features": [3]}, "no properties"),
        ({"features": [], "crs": {"properties": {"name": "EPSG:999999"}}}, "WGS84"),
    ],
)
def test_broken_geojson(tmp_path: Path, record: object, reason: str) -> None:
    text = record if isinstance(record, str) else json.dumps(record)
    with pytest.raises(UnreadableTable, match=reason):
        read_positions(write(tmp_path / "t.geojson", text))


XMP = (
    '<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" {attributes}>{elements}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def test_xmp(tmp_path: Path) -> None:
    attributes = (
        'exif:GPSLatitude="55,42.5N" exif:GPSAltitude="4310/10" exif:GPSAltitudeRef="1" '
        'exif:GPSImgDirection="1234/10"'
    )
    elements = (
        "<exif:GPSLongitude>13,11,30W</exif:GPSLongitude><exif:GPSImgDirectionRef>M</"
        "exif:GPSImgDirectionRef>"
    )
    path = write(tmp_path / "a.xmp", XMP.format(attributes=attributes, elements=elements))
    placement = read_sidecar(path)
    assert placement.point is not None
    assert np.isclose(placement.point.lat, 55 + 42.5 / 60)
    assert np.isclose(placement.point.lon, -(13 + 11 / 60 + 30 / 3600))
    assert placement.point.altitude_m == -431.0
    assert np.isclose(placement.heading_deg, 123.4)
    assert placement.heading_is_magnetic
    for lat in ("55,60.5N", "55,42.5", "x", "55,42.5E", "0/0", ""):
        write(
            path,
            XMP.format(
                attributes=f'exif:GPSLatitude="{lat}" exif:GPSLongitude="13,0E"', elements=""
            ),
        )
        assert read_sidecar(path).point is None


def test_xmp_with_entities_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(UnreadableTable, match="document type"):
            read_sidecar(write(tmp_path / "a.xmp", bomb, encoding))
    for broken in ("", "no xml", "<a><b></a>"):
        with pytest.raises(UnreadableTable, match="not XML"):
            read_sidecar(write(tmp_path / "a.xmp", broken))


def test_takeout(tmp_path: Path) -> None:
    placement = read_sidecar(
        write(tmp_path / "a.json", takeout(55.5, 13.25, photoTakenTime={"timestamp": "1717157000"}))
    )
    assert placement.point == GeoPoint(55.5, 13.25, 3.0)
    assert placement.time == datetime.fromtimestamp(1717157000, UTC)
    assert read_sidecar(write(tmp_path / "a.json", takeout(0.0, 0.0))).point is None
    second = takeout(0.0, 0.0, geoDataExif={"latitude": 1.5, "longitude": 2.5})
    assert read_sidecar(write(tmp_path / "a.json", second)).point == GeoPoint(1.5, 2.5)
    for other in (
        "[]",
        "3",
        '{"geoData": 3}',
        takeout(95.0, 0.0),
        '{"geoData": {"latitude": true, "longitude": 1}}',
    ):
        assert read_sidecar(write(tmp_path / "a.json", other)) == Placement("sidecar")
    with pytest.raises(UnreadableTable, match="line 2"):
        read_sidecar(write(tmp_path / "a.json", '{\n"geoData": oops}'))


def test_sidecar_names_and_order(tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "a.jpg")
    assert find_sidecar(photo) is None
    for name in ("a.jpg.json", "a.jpg.supplemental-metadata.json", "a.xmp", "a.jpg.xmp"):
        write(tmp_path / name, "")
        assert find_sidecar(photo) == tmp_path / name


def test_precedence_of_sources(tmp_path: Path) -> None:
    name = format_name(point=GeoPoint(20.0, 20.0), heading_deg=200)
    photo = save_photo(
        tmp_path / name, {**LUND, 17: 100.0, 31: 5.0}, {0x9003: "2024:05:31 14:30:20"}
    )
    plain = save_photo(tmp_path / "plain.jpg", {**LUND, 17: 100.0, 31: 5.0})
    assert read_metadata(plain).point_source == "exif"
    record = read_metadata(photo)
    assert record.point_source == "name"
    assert record.point is not None
    assert np.isclose(record.point.lat, 20.0, atol=1e-6)
    assert record.plane is not None
    assert record.heading_deg == 200
    assert record.error_m is None
    assert record.time == datetime(2024, 5, 31, 14, 30, 20)
    write(tmp_path / f"{name}.json", takeout(30.0, 30.0))
    record = read_metadata(photo)
    assert (record.point_source, record.point) == ("sidecar", GeoPoint(30.0, 30.0, 3.0))
    assert record.plane is None
    assert record.heading_deg == 200
    table = read_positions(write(tmp_path / "t.csv", f"path,lat,lon,heading\n{name},40,40,\n"))
    record = read_metadata(photo, positions=table)
    assert (record.point_source, record.point, record.heading_deg) == (
        "csv",
        GeoPoint(40.0, 40.0),
        200,
    )
    assert read_metadata(plain, positions=table).point_source == "exif"


def test_plane_without_a_point_keeps_the_point_below() -> None:
    name, exif = (
        Placement("name", plane=PlanePoint(3.0, 4.0)),
        Placement("exif", GeoPoint(1.0, 2.0), error_m=9.0),
    )
    merged = merge_placements([name, exif])
    assert (merged.point, merged.plane, merged.source, merged.error_m) == (
        exif.point,
        name.plane,
        "exif",
        9.0,
    )
    assert merge_placements([name]) == name
    assert merge_placements([]) == Placement()


@pytest.mark.real
def test_real_gps_samples(real_data: Path) -> None:
    folder = real_data / "exif-samples" / "gps"
    photos = [read_metadata(path) for path in sorted(folder.glob("*.jpg"))]
    assert len(photos) == 9
    for photo in photos:
        assert photo.point is not None
        assert 43.4 < photo.point.lat < 43.5
        assert 11.8 < photo.point.lon < 11.9
        assert photo.time is not None
        assert photo.time.tzinfo is not None


def test_gps_rationals_of_zero_over_zero_in_a_file(tmp_path: Path) -> None:
    """A block as cameras without a fix write it, built by hand: three rationals 0/0 for each
    axis."""
    rationals = struct.pack("<6I", *([0] * 6))
    entries = [(1, 2, 2, b"N\0\0\0"), (2, 5, 3, None), (3, 2, 2, b"E\0\0\0"), (4, 5, 3, None)]
    start = 8 + 2 + 12 + 4 + 2 + 12 * len(entries) + 4
    body = b"".join(
        struct.pack("<HHI", *entry[:3]) + (entry[3] or struct.pack("<I", start))
        for entry in entries
    )
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8825, 4, 1, 26) + bytes(4)
    tiff += struct.pack("<H", len(entries)) + body + bytes(4) + rationals
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0" + tiff)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert read_metadata(tmp_path / "a.jpg").point is None
