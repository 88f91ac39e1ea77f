"""Photo files with metadata of every kind, made here: EXIF, XMP packets, Takeout files, raw
photos."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

GPS, CAMERA = 0x8825, 0x8769
_SPACES = (
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"'
)
_IPTC = 'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'


def exif_of(
    gps: dict[int, object] | None = None, camera: dict[int, object] | None = None
) -> Image.Exif:
    """An EXIF block in memory."""
    exif = Image.Exif()
    exif.get_ifd(GPS).update(gps or {})
    exif.get_ifd(CAMERA).update(camera or {})
    return exif


def save_photo(
    path: Path, gps: dict[int, object] | None = None, camera: dict[int, object] | None = None
) -> Path:
    """A small JPEG with these GPS and Exif directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = exif_of(gps, camera)
    for directory in (
        GPS,
        CAMERA,
    ):  # Older Pillow writes only the directories that are set like this.
        exif[directory] = dict(exif.get_ifd(directory))
    Image.new("RGB", (30, 20), "gray").save(path, "JPEG", exif=exif)
    return path


def at(lat: float, lon: float) -> dict[int, object]:
    """GPS tags of a point, in decimal degrees."""
    return {
        1: "N" if lat >= 0 else "S",
        2: (abs(lat), 0.0, 0.0),
        3: "E" if lon >= 0 else "W",
        4: (abs(lon), 0.0, 0.0),
    }


def xmp(attributes: str = "", elements: str = "") -> str:
    """An XMP packet with one description."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {_SPACES} {_IPTC} '
        f"{attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def xmp_at(lat: str, lon: str) -> str:
    """An XMP packet that states a position."""
    return xmp(f'exif:GPSLatitude="{lat}" exif:GPSLongitude="{lon}"')


def with_packet(jpeg: bytes, packet: str) -> bytes:
    """A JPEG with an XMP packet inside."""
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def takeout(lat: float, lon: float, **more: object) -> str:
    """A Takeout file."""
    return json.dumps(
        {"title": "a", "geoData": {"latitude": lat, "longitude": lon, "altitude": 3.0}, **more}
    )


def picture_bytes(kind: str, **options: object) -> bytes:
    """A small picture in a format of Pillow's."""
    file = io.BytesIO()
    Image.new("RGB", (30, 20), "gray").save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def raw_photo(levels: np.ndarray) -> bytes:
    """A DNG of 12 bits, uint16 (H, W) under a Bayer pattern: the least that raw converters take."""
    height, width = levels.shape
    body = levels.astype("<u2").tobytes()
    identity = [(int(i == j), 1) for i in range(3) for j in range(3)]
    fields: list[tuple[int, int, list]] = [
        *(
            (254, 4, [0]),
            (256, 4, [width]),
            (257, 4, [height]),
            (258, 3, [16]),
            (259, 3, [1]),
            (262, 3, [32803]),
        ),
        *(
            (271, 2, list(b"Test\0")),
            (272, 2, list(b"Camera\0")),
            (273, 4, [0]),
            (274, 3, [1]),
            (277, 3, [1]),
        ),
        *(
            (278, 4, [height]),
            (279, 4, [len(body)]),
            (284, 3, [1]),
            (33421, 3, [2, 2]),
            (33422, 1, [0, 1, 1, 2]),
        ),
        *(
            (50706, 1, [1, 4, 0, 0]),
            (50707, 1, [1, 1, 0, 0]),
            (50708, 2, list(b"Test Camera\0")),
            (50717, 4, [4095]),
        ),
        *((50721, 10, identity), (50728, 5, [(1, 1)] * 3), (50778, 3, [21])),
    ]
    start = 8 + 2 + 12 * len(fields) + 4
    blob, entries, strip_at = b"", b"", 0
    for tag, kind, values in fields:
        if kind in (5, 10):
            value = b"".join(struct.pack("<ii", *pair) for pair in values)
        else:
            value = b"".join(struct.pack({3: "<H", 4: "<I"}.get(kind, "<B"), one) for one in values)
        if tag == 273:
            strip_at = len(entries) + 8
        if len(value) > 4:
            value, blob = (
                struct.pack("<I", start + len(blob)),
                blob + value + b"\0" * (len(value) % 2),
            )
        entries += struct.pack("<HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    entries = entries[:strip_at] + struct.pack("<I", start + len(blob)) + entries[strip_at + 4 :]
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + blob + body
