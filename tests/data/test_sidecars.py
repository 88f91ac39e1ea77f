"""Sidecars and packets inside photos: XMP as programs write it, and Takeout's names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import PngImagePlugin

from tagged import at, picture_bytes, save_photo, takeout, with_packet, xmp, xmp_at
from whence.data.degrees import LATITUDE, LONGITUDE, parse_degrees
from whence.data.metadata import read_metadata
from whence.data.scan import scan_photos
from whence.data.sidecars import find_sidecars, read_sidecar
from whence.types import GeoPoint

HERE = GeoPoint(59.325, 18.07)
SHOWN = (
    "<Iptc4xmpExt:{kind}><rdf:Bag><rdf:li "
    "rdf:parseType='Resource'><exif:GPSLatitude>48,51.5N</exif:GPSLatitude>"
    "<exif:GPSLongitude>2,17.7E</exif:GPSLongitude></rdf:li></rdf:Bag></Iptc4xmpExt:{kind}>"
)


def photo_at(folder: Path, name: str, lat: float | None = None) -> Path:
    """A photo, with an EXIF position where a latitude is given."""
    return save_photo(folder / name, None if lat is None else at(lat, 18.0))


def near(point: GeoPoint | None, lat: float, lon: float) -> bool:
    return point is not None and abs(point.lat - lat) < 1e-6 and abs(point.lon - lon) < 1e-6


@pytest.mark.parametrize(
    ("text", "ref", "expected"),
    [
        ("33,52.128S", "", -33.8688),
        ("33.8688", "S", -33.8688),
        ("33.8688", "South", -33.8688),
        ("-33.8688", "", -33.8688),
        ("-33.8688", "S", -33.8688),
        ("+33.8688", "N", 33.8688),
        ("33.8688S", "S", -33.8688),
        ("33 deg 52' 7.68\" S", "", -33.8688),
        ("S 33° 52′ 7.68″", "", -33.8688),
        ("\u221233.8688", "", -33.8688),
        ("-33 30' S", "", -33.5),
        ("33.8688", "", 33.8688),
        ("51,60.0000N", "", 52.0),
        ("45,0,60N", "", 45 + 1 / 60),
        ("90,0,0N", "", 90.0),
        ("33.8688N", "S", None),
        ("-33.8688", "N", None),
        ("+33.8688", "S", None),
        ("N 33.8688 S", "", None),
        ("33,52.128", "", None),
        ("33,60.1N", "", None),
        ("33.5,20N", "", None),
        ("33.8688E", "", None),
        ("90.001N", "", None),
        ("91", "N", None),
        ("nan", "N", None),
        ("1e400", "", None),
        ("", "N", None),
        ("N", "", None),
        ("0/0", "N", None),
    ],
)
def test_degrees_as_people_write_them(text: str, ref: str, expected: float | None) -> None:
    found = parse_degrees(text, LATITUDE, ref=ref)
    assert found == pytest.approx(expected, abs=1e-9) if expected is not None else found is None


def test_degrees_of_a_longitude() -> None:
    assert parse_degrees("151 12.558 E", LONGITUDE) == pytest.approx(151.2093)
    assert parse_degrees("79.0770035", LONGITUDE, ref="W") == -79.0770035
    assert parse_degrees("180,0.0001E", LONGITUDE) is None
    assert parse_degrees("33S", LONGITUDE) is None


@pytest.mark.parametrize("order", [0, 1])
def test_hemispheres_in_properties_of_their_own(tmp_path: Path, order: int) -> None:
    refs = (
        "<exif:GPSLatitudeRef>S</exif:GPSLatitudeRef><exif:GPSLongitudeRef>W</exif:GPSLongitudeRef>"
    )
    values = (
        "<exif:GPSLatitude>33.8688</exif:GPSLatitude><exif:GPSLongitude>79.077</exif:GPSLongitude>"
    )
    photo = photo_at(tmp_path, "a.jpg")
    (tmp_path / "a.xmp").write_text(xmp(elements=refs + values if order else values + refs))
    assert read_metadata(photo).point == GeoPoint(-33.8688, -79.077)


@pytest.mark.parametrize("kind", ["LocationShown", "LocationCreated"])
@pytest.mark.parametrize("place", ["before", "after", "alone"])
def test_places_of_iptc_are_not_the_cameras(tmp_path: Path, kind: str, place: str) -> None:
    own = (
        "<exif:GPSLatitude>59,19.5N</exif:GPSLatitude>"
        "<exif:GPSLongitude>18,4.2E</exif:GPSLongitude>"
    )
    shown = SHOWN.format(kind=kind)
    elements = {"before": shown + own, "after": own + shown, "alone": shown}[place]
    photo = photo_at(tmp_path, "a.jpg", 12.0)
    (tmp_path / "a.jpg.xmp").write_text(xmp(elements=elements))
    record = read_metadata(photo)
    assert (record.point, record.point_source) == (
        (GeoPoint(12.0, 18.0), "exif") if place == "alone" else (HERE, "sidecar")
    )


def test_a_nested_description_is_not_the_photos(tmp_path: Path) -> None:
    inner = '<rdf:Description exif:GPSLatitude="1,0N" exif:GPSLongitude="1,0E"/>'
    (tmp_path / "a.xmp").write_text(xmp(elements=f"<Iptc4xmpExt:Thing>{inner}</Iptc4xmpExt:Thing>"))
    assert read_sidecar(tmp_path / "a.xmp").point is None


def test_what_contradicts_itself_is_no_position_and_is_said(tmp_path: Path) -> None:
    attributes = (
        'exif:GPSLatitude="18,32.7N" exif:GPSLatitudeRef="S" exif:GPSLongitude="70,19.8E" '
        'exif:GPSLongitudeRef="E"'
    )
    photo_at(tmp_path, "letters.jpg")
    (tmp_path / "letters.jpg.xmp").write_text(xmp(attributes))
    twice = "<exif:GPSLatitude>1,0N</exif:GPSLatitude><exif:GPSLongitude>1,0E</exif:GPSLongitude>"
    photo_at(tmp_path, "twice.jpg")
    (tmp_path / "twice.jpg.xmp").write_text(
        xmp('exif:GPSLatitude="2,0N" exif:GPSLongitude="1,0E"', twice)
    )
    photos = scan_photos(tmp_path, show_progress=False)
    assert not photos.has_point.any()
    (remark,) = photos.remarks
    assert "letters.jpg (its XMP states a position that is none, or contradicts itself)" in remark


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("declared", ["", '<?xml version="1.0" encoding="UTF-16"?>\n', "\n\n"])
def test_encodings(tmp_path: Path, encoding: str, declared: str) -> None:
    if declared.startswith("<?xml") and "16" not in encoding:
        declared = declared.replace("UTF-16", "UTF-8")
    text = declared + xmp_at("59,19.5N", "18,4.2E") + "\n\n"
    (tmp_path / "a.xmp").write_bytes(text.encode(encoding))
    assert read_sidecar(tmp_path / "a.xmp").point == HERE


@pytest.mark.parametrize(
    ("photo", "sidecar"),
    [
        ("a.jpg", "a.xmp"),
        ("a.jpg", "a.XMP"),
        ("a.JPG", "a.JPG.XMP"),
        ("a.jpg", "a.JPG.xmp"),
        ("A.JPG", "a.jpg.xmp"),
        ("sid\u00e9.jpg", "side\u0301.jpg.xmp"),
        ("side\u0301.jpg", "sid\u00e9.xmp"),
    ],
)
def test_upper_case_and_accented_names(tmp_path: Path, photo: str, sidecar: str) -> None:
    photo_at(tmp_path, photo)
    (tmp_path / sidecar).write_text(xmp_at("59,19.5N", "18,4.2E"))
    assert read_metadata(tmp_path / photo).point == HERE
    assert scan_photos(tmp_path, show_progress=False)[0].point == HERE


def test_photos_that_differ_by_case_alone_keep_their_own(tmp_path: Path) -> None:
    photo_at(tmp_path, "A.jpg")
    photo_at(tmp_path, "a.jpg")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    (tmp_path / "a.xmp").write_text(xmp_at("59,19.5N", "18,4.2E"))
    assert [photo.point for photo in scan_photos(tmp_path, show_progress=False)] == [None, HERE]


@pytest.mark.parametrize(
    "first", [xmp(), xmp('exif:GPSImgDirection="90/1"'), xmp_at("0,0N", "0,0E"), xmp_at("", "")]
)
@pytest.mark.parametrize("second", ["a.xmp", "a.jpg.json", "a.jpg.supplemental-metadata.json"])
def test_a_sidecar_without_a_position_does_not_hide_the_next(
    tmp_path: Path, first: str, second: str
) -> None:
    photo = photo_at(tmp_path, "a.jpg", 12.0)
    (tmp_path / "a.jpg.xmp").write_text(first)
    (tmp_path / second).write_text(
        takeout(59.325, 18.07) if second.endswith("json") else xmp_at("59,19.5N", "18,4.2E")
    )
    record = read_metadata(photo)
    assert near(record.point, 59.325, 18.07)
    assert record.heading_deg == (90.0 if "ImgDirection" in first else None)


def test_a_broken_sidecar_does_not_hide_the_next(tmp_path: Path) -> None:
    photo_at(tmp_path, "a.jpg")
    (tmp_path / "a.jpg.xmp").write_text("no xml")
    (tmp_path / "a.xmp").write_text(xmp_at("59,19.5N", "18,4.2E"))
    photos = scan_photos(tmp_path, show_progress=False)
    assert photos[0].point == HERE
    assert [entry.path for entry in photos.skipped] == ["a.jpg.xmp"]


DRONE = (
    'drone-dji:GpsLatitude="+44.5135795" drone-dji:{lon}="-64.3007844" '
    'drone-dji:AbsoluteAltitude="+120.5"'
)


@pytest.mark.parametrize(
    ("packet", "point"),
    [
        (xmp_at("59,19.5N", "18,4.2E"), HERE),
        (xmp(DRONE.format(lon="GpsLongitude")), GeoPoint(44.5135795, -64.3007844, 120.5)),
        (xmp(DRONE.format(lon="GpsLongtitude")), GeoPoint(44.5135795, -64.3007844, 120.5)),
        (xmp('drone-dji:GpsLatitude="+0.0" drone-dji:GpsLongitude="+0.0"'), None),
        (xmp(elements=SHOWN.format(kind="LocationShown")), None),
        ("<broken", None),
        (xmp(), None),
    ],
)
def test_packets_inside_photos(tmp_path: Path, packet: str, point: GeoPoint | None) -> None:
    (tmp_path / "a.jpg").write_bytes(with_packet(picture_bytes("JPEG"), packet))
    record = read_metadata(tmp_path / "a.jpg")
    assert (record.point, record.point_source) == (point, "xmp" if point else "")


@pytest.mark.parametrize("kind", ["PNG", "late PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_packets_inside_other_formats(tmp_path: Path, kind: str) -> None:
    packet = xmp_at("59,19.5N", "18,4.2E").encode()
    if kind == "HEIF":
        pytest.importorskip(
            "pillow_heif", reason="the extra `heic` is not installed"
        ).register_heif_opener()
    if kind.endswith("PNG"):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=False)
        if kind == "late PNG":
            info.chunks = [(*chunk[:2], True) for chunk in info.chunks]
        data = picture_bytes("PNG", pnginfo=info)
    elif kind == "TIFF":
        data = picture_bytes("TIFF", tiffinfo={700: packet})
    else:
        data = picture_bytes(kind, xmp=packet)
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_metadata(tmp_path / "a.jpg").point == HERE


def test_what_is_outside_comes_before_what_is_inside(tmp_path: Path) -> None:
    photo = photo_at(tmp_path, "a.jpg", 12.0)
    photo.write_bytes(with_packet(photo.read_bytes(), xmp_at("59,19.5N", "18,4.2E")))
    assert read_metadata(photo).point == GeoPoint(12.0, 18.0)
    (tmp_path / "a.xmp").write_text(xmp_at("1,0N", "1,0E"))
    assert read_metadata(photo).point == GeoPoint(1.0, 1.0)


LONG = "a_very_long_photo_name_that_exceeds_the_limit_of_46.jpg"


@pytest.mark.parametrize(
    ("photo", "sidecar"),
    [
        *(("IMG_1.jpg", f"IMG_1.jpg{'.supplemental-metadata'[:cut]}.json") for cut in range(22)),
        (
            "PXL_20230814_101112345.PORTRAIT.ORIGINAL.jpg",
            "PXL_20230814_101112345.PORTRAIT.ORIGINAL.jpg.s.json",
        ),
        ("PXL_20230814_101112345.NIGHT.jpg", "PXL_20230814_101112345.NIGHT.jpg.supplemental-.json"),
        (LONG, LONG[:46] + ".json"),
        ("IMG_1(1).jpg", "IMG_1.jpg.supplemental-metadata(1).json"),
        ("IMG_1(1).jpg", "IMG_1.jpg(1).json"),
        ("IMG_1(12).jpg", "IMG_1.jpg.supplemental-met(12).json"),
        ("IMG_1(1).jpg", "IMG_1(1).jpg.json"),
        (LONG.replace(".jpg", "(2).jpg"), LONG[:46] + "(2).json"),
        ("E_3-edited.jpg", "E_3.jpg.supplemental-metadata.json"),
        ("E_3-bearbeitet.jpg", "E_3.jpg.json"),
        ("E_3-modifi\u00e9.jpg", "E_3.jpg.json"),
        ("E_3-modifie\u0301.jpg", "E_3.jpg.json"),
        ("E_3-\u7de8\u96c6\u6e08\u307f.jpg", "E_3.jpg.json"),
        ("E_3-edited(1).jpg", "E_3.jpg(1).json"),
        (
            "PXL_20230814_101112345.PORTRAIT.ORIGINALSS-edit.jpg",
            "PXL_20230814_101112345.PORTRAIT.ORIGINALSS.jpg.json",
        ),
        ("Peanut.jpg", "Peanut.supplemental-metadata.json"),
        ("Plain.jpg", "Plain.json"),
        ("Plain(1).jpg", "Plain(1).json"),
        ("UPPER.JPG", "UPPER.jpg.json"),
        ("sid\u00e9.jpg", "side\u0301.jpg.json"),
    ],
)
def test_takeouts_names(tmp_path: Path, photo: str, sidecar: str) -> None:
    photo_at(tmp_path, photo)
    (tmp_path / sidecar).write_text(takeout(51.0, 8.0))
    assert read_metadata(tmp_path / photo).point == GeoPoint(51.0, 8.0, 3.0)


def test_an_edited_copy_of_another_ending(tmp_path: Path) -> None:
    photo_at(tmp_path, "E_3.heic")
    photo_at(tmp_path, "E_3-edited.jpg")
    (tmp_path / "E_3.heic.json").write_text(takeout(51.0, 8.0))
    assert read_metadata(tmp_path / "E_3-edited.jpg").point == GeoPoint(51.0, 8.0, 3.0)


@pytest.mark.parametrize(
    ("photo", "sidecar"),
    [
        ("IMG_1.jpg", "IMG_1.jpg(1).json"),
        ("IMG_1(1).jpg", "IMG_1.jpg.json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.supplemental-metadata(1).json"),
        ("IMG_1.jpg", "IMG_11.jpg.json"),
        ("IMG_11.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.png.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-data.json"),
        ("edited.jpg", ".jpg.json"),
        ("E_3-credited.jpg", "E_3.jpg.json"),
    ],
)
def test_names_that_are_another_photos(tmp_path: Path, photo: str, sidecar: str) -> None:
    photo_at(tmp_path, photo)
    (tmp_path / sidecar).write_text(takeout(51.0, 8.0))
    assert find_sidecars(tmp_path / photo) == ()


def test_one_name_for_two_photos_goes_by_its_title(tmp_path: Path) -> None:
    for name in ("Plain.jpg", "Plain.png", LONG, LONG.replace("46", "47")):
        photo_at(tmp_path, name)
    (tmp_path / "Plain.json").write_text(takeout(51.0, 8.0))
    (tmp_path / (LONG[:46] + ".json")).write_text(takeout(52.0, 8.0))
    assert not scan_photos(tmp_path, show_progress=False).has_point.any()
    (tmp_path / "Plain.json").write_text(takeout(51.0, 8.0, title="Plain.png"))
    (tmp_path / (LONG[:46] + ".json")).write_text(takeout(52.0, 8.0, title=LONG))
    found = {
        photo.path: photo.point and photo.point.lat
        for photo in scan_photos(tmp_path, show_progress=False)
    }
    assert found == {
        "Plain.jpg": None,
        "Plain.png": 51.0,
        LONG: 52.0,
        LONG.replace("46", "47"): None,
    }


def test_json_of_other_programs_is_not_takeouts(tmp_path: Path) -> None:
    photo_at(tmp_path, "a.jpg")
    for text in ('{"shapes": [], "imagePath": "a.jpg"}', "[]", "{oops"):
        (tmp_path / "a.json").write_text(text)
        assert find_sidecars(tmp_path / "a.jpg") == ()
        assert scan_photos(tmp_path, show_progress=False).skipped == ()


def test_names_are_compared_composed(tmp_path: Path) -> None:
    name = "e\u0301" * 30 + ".jpg"
    photo_at(tmp_path, name)
    (tmp_path / (unicodedata.normalize("NFC", name) + ".json")).write_text(takeout(51.0, 8.0))
    assert read_metadata(tmp_path / name).point == GeoPoint(51.0, 8.0, 3.0)
