"""Tables of positions and lists as people and programs write them, and what is said of rows that
are wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyproj
import pytest

from tagged import at, picture_bytes, save_photo
from whence.data.formats import read_folders, read_pairs
from whence.data.positions import PositionTable, read_positions
from whence.data.predictions import read_hloc_pairs, read_predictions
from whence.data.rows import parse_time
from whence.data.scan import scan_photos
from whence.errors import UnreadableTable
from whence.geo import distance_m
from whence.types import GeoPoint

SYDNEY = GeoPoint(-33.857, 151.215)


def table(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> PositionTable:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_positions(path)


def point(found: PositionTable, name: str = "a.jpg") -> GeoPoint | None:
    row = found.find(name)
    return None if row is None else row.point


def photos_in(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture_bytes("JPEG", quality=50 + len(name)))
    return folder


# ---- UTM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("zone", "56S"),
        ("zone", "56H"),
        ("zone", "56 s"),
        ("zone", "EPSG:32756"),
        ("zone", "UTM zone 56S"),
        ("zone", "56 South"),
        ("zone,hemisphere", "56,S"),
        ("zone,hemisphere", "56,south"),
        ("zone,hemisphere", "56S,S"),
        ("zone,hemisphere", "56H,S"),
        ("zone,lat,lon", "56,-33.857,151.215"),
        ("zone,lat,lon", "56S,-33.857,151.215"),
        ("zone,lat,lon", "56J,-33.857,151.215"),
    ],
)
def test_zones_of_the_south(tmp_path: Path, columns: str, cells: str) -> None:
    found = table(
        tmp_path, f"file,easting,northing,{columns}\na.jpg,334897.0,6252270.0,{cells}\n"
    ).find("a.jpg")
    assert found is not None
    assert found.point is not None
    assert found.plane is not None
    assert distance_m(found.point, SYDNEY) < 30
    assert found.plane.zone in ("56H", "56J")


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("zone", "10S"),
        ("zone,hemisphere", "10S,N"),
        ("zone", "10"),
        ("zone", "10N"),
        ("zone,hemisphere", "10,N"),
        ("zone", "EPSG:32610"),
        ("zone,lat,lon", "10S,37.75645,-122.50891"),
    ],
)
def test_zones_of_the_north(tmp_path: Path, columns: str, cells: str) -> None:
    found = point(
        table(tmp_path, f"file,easting,northing,{columns}\na.jpg,543256.96,4178906.70,{cells}\n")
    )
    assert found is not None
    assert distance_m(found, GeoPoint(37.75645, -122.50891)) < 5


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("zone,hemisphere", "56H,N"),
        ("zone,hemisphere", "56N,S"),
        ("zone,hemisphere", "56,east"),
        ("zone,hemisphere", "EPSG:32756,N"),
        ("zone", "56T"),
        ("zone", "56SH"),
        ("zone", "0"),
        ("zone", "EPSG:3006"),
        ("zone,lat,lon", "56,33.857,151.215"),
        ("zone,lat,lon", "33S,-33.857,151.215"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(
    tmp_path: Path, columns: str, cells: str
) -> None:
    with pytest.raises(UnreadableTable, match="line 2"):
        table(tmp_path, f"file,easting,northing,{columns}\na.jpg,334897.0,6252270.0,{cells}\n")


def test_degrees_are_no_metres_and_zeros_are_placeholders(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="look like degrees"):
        table(tmp_path, "file,easting,northing,zone\na.jpg,59.33,18.07,33V\n")
    found = table(tmp_path, "file,easting,northing,zone,lat,lon\na.jpg,0,0,33V,59.33,18.07\n").find(
        "a.jpg"
    )
    assert found is not None
    assert (found.point, found.plane) == (GeoPoint(59.33, 18.07), None)


# ---- shapes --------------------------------------------------------------------------------------

EAST, NORTH = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3006", always_xy=True).transform(
    18.0, 59.3
)
POINT_WKT = '"POINT ({})"'


@pytest.mark.parametrize(
    "text",
    [
        "SourceFile,GPSLatitude,GPSLongitude,GPSImgDirection\n./a.jpg,59.3,18.0,90\n",
        (
            'SourceFile,GPSLatitude,GPSLongitude\n./a.jpg,"59 deg 18\' 0.00"" N","18 deg 0\' '
            '0.00"" E"\n'
        ),
        "SourceFile,GPSLatitude,GPSLatitudeRef,GPSLongitude,GPSLongitudeRef\na.jpg,59.3,N,18,E\n",
        (
            "SourceFile,FileName,Directory,GPSLatitude,GPSLongitude,GPSAltitude\np/a.jpg,a.jpg,p,"
            '59.3,18,"7 '
            'm Above Sea Level"\n'
        ),
        "sep=;\r\nfile;lat;lon\r\na.jpg;59,3;18,0\r\n",
        "sep=,\nfile,lat,lon\na.jpg,59.3,18\n",
        '"sep=;"\nfile;lat;lon\na.jpg;59.3;18\n',
        "sep=|\nfile|lat|lon\na.jpg|59.3|18\n",
        "X,Y,file\n18.0,59.3,a.jpg\n",
        "wkt_geom\tfile\nPoint (18 59.3)\ta.jpg\n",
        "WKT,file\n" + POINT_WKT.format("18 59.3") + ",a.jpg\n",
        'WKT,file\n"POINT Z (18 59.3 7)",a.jpg\n',
        'WKT,file\n"SRID=4326;POINT(18 59.3)",a.jpg\n',
        "WKT,file\nMultiPoint ((18 59.3)),a.jpg\n",
        "photo,directory,altitude,direction,longitude,latitude\n/x/p/a.jpg,/x/p,7,90,18,59.3\n",
        f"file,x,y,crs\na.jpg,{EAST:.2f},{NORTH:.2f},EPSG:3006\n",
        f"file,easting,northing,epsg\na.jpg,{EAST:.2f},{NORTH:.2f},3006\n",
        "file,lat,lon,x,y\na.jpg,59.3,18,1234,567\n",
        '# made by hand\nfile,lat,lon\na.jpg,"59,3","18,0"\n',
        "file,lat,lon\na.jpg,59.3 N,18.0E,\n",
        "file,lat,lon\na.jpg,59.3\u00b0,18\u00b0\n",
        "file\tlat\tlon\r\na.jpg\t59.3\t18.0\r\n".encode("utf-16"),
    ],
)
def test_tables_of_other_programs(tmp_path: Path, text: str | bytes) -> None:
    found = table(tmp_path, text)
    assert found.faults == ()
    place = point(found, "/x/p/a.jpg")
    assert place is not None
    assert distance_m(place, GeoPoint(59.3, 18.0)) < 1


@pytest.mark.parametrize("crs", ["urn:ogc:def:crs:EPSG::3006", "EPSG:3006"])
def test_geojson_of_another_system(tmp_path: Path, crs: str) -> None:
    geometry = (
        {"type": "Point", "coordinates": [EAST, NORTH]}
        if crs[0] == "u"
        else {"type": "MultiPoint", "coordinates": [[EAST, NORTH]]}
    )
    record = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": crs}},
        "features": [
            {"type": "Feature", "geometry": geometry, "properties": {"filename": "a.jpg"}}
        ],
    }
    place = point(table(tmp_path, json.dumps(record), "t.geojson"))
    assert place is not None
    assert distance_m(place, GeoPoint(59.3, 18.0)) < 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,x,y\na.jpg,120,80\nb.jpg,640,480\n", "line 3.*crs"),
        ("file,x,y,crs\na.jpg,1,2,EPSG:999999\n", "not known"),
        ("file,wkt\na.jpg,LINESTRING(1 2)\n", "not a POINT"),
        ("file,wkt\na.jpg,POINT(1)\n", "two numbers"),
        ('file,wkt\na.jpg,"MULTIPOINT((1 2), (3 4))"\n', "not a POINT"),
        ("file,lat,lon,lat_ref\na.jpg,-59.3,18,N\n", "with hemisphere 'N'"),
    ],
)
def test_geometries_that_are_no_places(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UnreadableTable, match=reason):
        table(tmp_path, text)


# ---- times ---------------------------------------------------------------------------------------

STAMP = datetime(2023, 7, 22, 4, 26, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1690000000", STAMP),
        ("1690000000.0", STAMP),
        ("1690000000000", STAMP),
        ("1690000000000000", STAMP),
        ("2023-07-22T04:26:40Z", STAMP),
        ("2023:07:22 04:26:40", STAMP.replace(tzinfo=None)),
        ("20230722_042640", STAMP.replace(tzinfo=None)),
        ("20230722042640", STAMP.replace(tzinfo=None)),
        ("2023072204", STAMP.replace(minute=0, second=0, tzinfo=None)),
        ("99999999999999", None),
        ("noon", None),
        ("12", None),
    ],
)
def test_times(text: str, time: datetime | None) -> None:
    assert parse_time(text) == time


def test_a_time_that_is_not_understood_costs_itself(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "file,lat,lon,time,heading\na.jpg,59.3,18,yesterday,north\nb.jpg,59.3,18,1690000000000,90\n",
    )
    assert point(found) == GeoPoint(59.3, 18.0)
    other = found.find("b.jpg")
    assert other is not None
    assert (other.time, other.heading_deg) == (STAMP, 90.0)
    (remark,) = found.remarks()
    assert (
        "fields not understood: 2; line 2: a.jpg: heading is 'north', not a number; line 2: "
        "a.jpg: time 'yesterday'"
    ) in remark


def test_captured_at_of_geojson(tmp_path: Path) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [18, 59.3]},
            "properties": {"path": "a.jpg", **more},
        }
        for more in ({"captured_at": 1690000000000},)
    ]
    found = table(
        tmp_path,
        json.dumps({"type": "FeatureCollection", "features": features}),
        "captured.geojson",
    ).find("a.jpg")
    assert found is not None
    assert (found.point, found.time) == (GeoPoint(59.3, 18.0), STAMP)


# ---- wrong rows ----------------------------------------------------------------------------------


def test_wrong_rows_are_left_out_and_reported(tmp_path: Path) -> None:
    rows = [
        "file,lat,lon",
        "a.jpg,59.3,18",
        "",
        "b.jpg,x,2",
        "c.jpg,95,0",
        ",1,1",
        "d.jpg,1,2,3,4",
        "e.jpg,1,",
        "f.jpg,2,3",
    ]
    found = table(tmp_path, "\n".join(rows) + "\n")
    assert set(found.rows) == {"a.jpg", "f.jpg"}
    assert [fault.line for fault in found.faults] == [4, 5, 6, 7, 8]
    (remark,) = found.remarks()
    assert "rows left out: 5; line 4: b.jpg: lat is 'x', not a number; line 5: c.jpg:" in remark
    assert "and 2 more" in remark
    photos_in(tmp_path, "a.jpg", "b.jpg")
    photos = scan_photos(tmp_path, positions=tmp_path / "t.csv", show_progress=False)
    assert photos.has_point.tolist() == [True, False]
    assert remark in photos.remarks


def test_names_that_stand_twice_state_nothing(tmp_path: Path) -> None:
    found = table(tmp_path, "file,lat,lon\na.jpg,1,1\nb.jpg,2,2\na.jpg,3,3\nb.jpg,2,2\n")
    assert set(found.rows) == {"b.jpg"}
    assert [str(fault) for fault in found.faults] == [
        "line 4: a.jpg stands in the table twice, with different values"
    ]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    for text, line in (
        ('file,lat,lon\n"a\nb.jpg",1,1\nc.jpg,x,1\n', 4),
        ("sep=;\n\nfile;lat;lon\na.jpg;x;1\n", 4),
        ('file,lat,lon\na.jpg,1,1\n"b.jpg,2,2\nc.jpg,3,3\n', 3),
        ("file,lat,lon\ra.jpg,1,1\rb.jpg,x,1\r", 3),
    ):
        try:
            lines = [fault.line for fault in table(tmp_path, text).faults]
        except UnreadableTable as error:
            lines = [error.line]
        assert lines == [line], text


def test_wrong_features_are_left_out_and_reported(tmp_path: Path) -> None:
    good = {
        "geometry": {"type": "Point", "coordinates": [18, 59.3]},
        "properties": {"path": "a.jpg"},
    }
    bad = [
        3,
        {"properties": {}},
        {"geometry": {"type": "Point", "coordinates": [18, 95]}, "properties": {"path": "b.jpg"}},
    ]
    found = table(tmp_path, json.dumps({"features": [*bad, good]}), "t.geojson")
    assert set(found.rows) == {"a.jpg"}
    assert [str(fault)[:9] for fault in found.faults] == ["feature 1", "feature 2", "feature 3"]


# ---- names ---------------------------------------------------------------------------------------


def test_bare_names_of_two_folders_are_refused(tmp_path: Path) -> None:
    photos_in(
        tmp_path,
        "flight1/1.jpg",
        "flight1/2.jpg",
        "flight2/1.jpg",
        "flight2/2.jpg",
        "flight1/3.jpg",
    )
    path = tmp_path / "t.csv"
    path.write_text("file,lat,lon\n1.jpg,1,1\n2.jpg,2,2\n")
    with pytest.raises(
        UnreadableTable,
        match=r"fit several photos.*flight1.1\.jpg, flight2.1\.jpg.*name the folder",
    ):
        scan_photos(tmp_path, positions=path, show_progress=False)
    path.write_text("file,lat,lon\n1.jpg,1,1\nflight1/2.jpg,2,2\nflight2/2.jpg,4,4\n3.jpg,3,3\n")
    photos = scan_photos(tmp_path, positions=path, show_progress=False)
    found = {photo.path: photo.point and photo.point.lat for photo in photos}
    assert found == {
        "flight1/1.jpg": None,
        "flight1/2.jpg": 2,
        "flight1/3.jpg": 3,
        "flight2/1.jpg": None,
        "flight2/2.jpg": 4,
    }
    assert any(
        "names that fit several photos and are not used: 1; 1.jpg" in remark
        for remark in photos.remarks
    )
    path.write_text("file,lat,lon\n1.jpg,1,1\nflight2/1.jpg,5,5\n")
    found = {
        photo.path: photo.point and photo.point.lat
        for photo in scan_photos(tmp_path, positions=path, show_progress=False)
    }
    assert (found["flight1/1.jpg"], found["flight2/1.jpg"]) == (1, 5), "the folder tells them apart"


def test_folders_of_one_name_are_not_enough(tmp_path: Path) -> None:
    photos_in(tmp_path, "a/p/1.jpg", "b/p/1.jpg")
    path = tmp_path / "t.csv"
    path.write_text("file,lat,lon\np/1.jpg,1,1\n1.jpg,2,2\n")
    with pytest.raises(UnreadableTable, match="fit several photos"):
        scan_photos(tmp_path, positions=path, show_progress=False)


def test_a_name_of_database_and_queries_is_not_used(tmp_path: Path) -> None:
    photos_in(tmp_path, "database/1.jpg", "queries/1.jpg", "database/2.jpg")
    (tmp_path / "positions.csv").write_text("file,lat,lon\n1.jpg,1,1\n2.jpg,2,2\n")
    made = read_folders(tmp_path)
    assert made.database.has_point.tolist() == [False, True]
    assert not made.queries.has_point.any()
    assert "names that fit several photos" in made.database.remarks[0]


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    for photo, name in (
        ("b\u00e4ck.jpg", "ba\u0308ck.jpg"),
        ("Mu\u0308nchen/1.jpg", "M\u00fcnchen/1.jpg"),
    ):
        photos_in(tmp_path / "p", photo)
        path = tmp_path / "t.csv"
        path.write_text(f"file,lat,lon\n{name},1,2\n", encoding="utf-8")
        photos = scan_photos(tmp_path / "p" / photo, positions=path, show_progress=False)
        assert photos[0].point == GeoPoint(1.0, 2.0)
        (tmp_path / "p" / "list.txt").write_text(name + "\n", encoding="utf-8")
        assert scan_photos(tmp_path / "p" / "list.txt", show_progress=False).paths == (
            Path(photo).name,
        )


def test_backslashes_are_slashes_everywhere(tmp_path: Path) -> None:
    photos_in(tmp_path, "q/0.jpg", "db/0.jpg", "db/1.jpg")
    (tmp_path / "pairs.csv").write_bytes(b"query,positives\r\nq\\0.jpg,db\\0.jpg;db\\1.jpg\r\n")
    made = read_pairs(tmp_path / "pairs.csv")
    assert made.positives is not None
    assert made.positives.of(0).tolist() == [0, 1]
    (tmp_path / "list.txt").write_text("db\\0.jpg\r\n.\\db\\1.jpg\r\n")
    assert scan_photos(tmp_path / "list.txt", show_progress=False).paths == ("0.jpg", "1.jpg")
    (tmp_path / "p.csv").write_text("query,rank,photo,similarity\nq\\0.jpg,1,db\\0.jpg,0.9\n")
    (tmp_path / "p.txt").write_text("q\\0.jpg db\\0.jpg\n")
    for ((query, (candidate,)),) in (
        read_predictions(tmp_path / "p.csv"),
        read_hloc_pairs(tmp_path / "p.txt"),
    ):
        assert (query, candidate.photo) == ("q/0.jpg", "db/0.jpg")


def test_a_file_whose_own_name_holds_a_backslash(tmp_path: Path) -> None:
    try:
        photos_in(tmp_path, "DCIM\\100MEDIA\\a.jpg")
    except OSError:
        pytest.skip("this file system does not allow it")
    path = tmp_path / "t.csv"
    path.write_text("file,lat,lon\nDCIM\\100MEDIA\\a.jpg,1,2\n")
    assert scan_photos(tmp_path, positions=path, show_progress=False)[0].point == GeoPoint(1.0, 2.0)
    (tmp_path / "list.txt").write_text("DCIM\\100MEDIA\\a.jpg\n")
    assert len(scan_photos(tmp_path / "list.txt", show_progress=False)) == 1


def test_a_missing_positive_names_its_own_line(tmp_path: Path) -> None:
    photos_in(tmp_path, "q/0.jpg", "q/1.jpg", "db/0.jpg")
    (tmp_path / "pairs.csv").write_text(
        "query,positives\nq/0.jpg,db/0.jpg\nq/1.jpg,db/0.jpg\nq/0.jpg,db/nothere.jpg\n"
    )
    with pytest.raises(UnreadableTable, match="nothere") as caught:
        read_pairs(tmp_path / "pairs.csv")
    assert caught.value.line == 4


# ---- contradictions ------------------------------------------------------------------------------


def test_exif_that_contradicts_a_table_or_name_is_reported(tmp_path: Path) -> None:
    save_photo(tmp_path / "near.jpg", at(59.3, 18.0))
    save_photo(tmp_path / "far.jpg", at(59.4, 18.0))
    save_photo(tmp_path / "unsure.jpg", {**at(59.4, 18.0), 31: 20_000.0})
    save_photo(tmp_path / "@0000000@0000000@@@59.30000@18.00000@@.jpg", at(12.0, 18.0))
    path = tmp_path / "t.csv"
    path.write_text("file,lat,lon\nnear.jpg,59.3003,18\nfar.jpg,59.3,18\nunsure.jpg,59.3,18\n")
    photos = scan_photos(tmp_path, positions=path, show_progress=False)
    (remark,) = photos.remarks
    assert "of 2 photos contradicts" in remark
    assert "far.jpg (11 km)" in remark
    assert "unsure.jpg" not in remark
    assert {photo.point and round(photo.point.lat, 3) for photo in photos} == {59.3}
