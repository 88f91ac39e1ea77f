"""Google Takeout: the JSON that describes a photo, and the names under which it may lie beside it.

Names are clipped to 51 characters with the ending, "supplemental-metadata" is cut wherever that
falls, "(1)" moves behind the photo's own ending, edited copies have no file of their own, and the
photo's ending may be missing.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whence.data.numbers import finite_number
from whence.data.placement import Placement
from whence.errors import InvalidPoint, UnreadableTable
from whence.types import GeoPoint

_META = ".supplemental-metadata"
_MAX_NAME, _MAX_STEM = 51, 46
_NUMBERED = re.compile(r"(.+)(\([0-9]+\))")
_EDITED = (
    *(
        "-edited",
        "-effects",
        "-smile",
        "-mix",
        "-bearbeitet",
        "-bewerkt",
        "-modifié",
        "-modifie",
        "-modificato",
        "-editado",
    ),
    *(
        "-ha editado",
        "-editada",
        "-editat",
        "-editată",
        "-redigerad",
        "-redigert",
        "-redigeret",
        "-muokattu",
        "-edytowane",
    ),
    *(
        "-edytowany",
        "-upraveno",
        "-upravené",
        "-szerkesztett",
        "-düzenlendi",
        "-uređeno",
        "-urejeno",
        "-επεξεργασμένο",
    ),
    *(
        "-отредактировано",
        "-изменено",
        "-змінено",
        "-відредаговано",
        "-редактирано",
        "-編集済み",
        "-편집됨",
        "-수정됨",
    ),
    *(
        "-已编辑",
        "-已修改",
        "-已編輯",
        "-diedit",
        "-đã chỉnh sửa",
        "-แก้ไขแล้ว",
        "-נערך",
        "-معدل",
        "-संपादित",
    ),
)


def placement_from_takeout(data: bytes, *, path: Path) -> Placement:
    """The placement of a Takeout file; silent where it holds no position. Raises `UnreadableTable`
    where it is no JSON."""
    record = read_record(data, path=path)
    points = (_takeout_point(record.get(key)) for key in ("geoData", "geoDataExif"))
    taken = record.get("photoTakenTime")
    seconds = finite_number(taken.get("timestamp")) if isinstance(taken, dict) else None
    try:
        time = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        time = None
    return Placement(
        "sidecar", next((point for point in points if point is not None), None), time=time
    )


def read_record(data: bytes, *, path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty for other JSON. Raises `UnreadableTable`."""
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UnreadableTable(path, f"not JSON: {error.msg}", line=error.lineno) from None
    except (ValueError, RecursionError):
        raise UnreadableTable(path, "not JSON in UTF-8") from None
    return record if isinstance(record, dict) else {}


def own_names(photo: str) -> Iterator[str]:
    """Names of files that belong to a photo for certain: its whole name, then any cut of the
    rest."""
    stem, ending = os.path.splitext(photo)
    numbered = _NUMBERED.fullmatch(stem)
    named = [(photo, "")] + ([(numbered[1] + ending, numbered[2])] if numbered else [])
    for name, number in named:
        for length in (len(_META), 0, *range(len(_META) - 1, 0, -1)):
            yield f"{name}{_META[:length]}{number}.json"


def likely_names(photo: str) -> Iterator[str]:
    """Names that may belong to several photos: clipped inside the photo's name, or without its
    ending."""
    stem, ending = os.path.splitext(photo)
    numbered = _NUMBERED.fullmatch(stem)
    named = [(stem, ending, "")] + ([(numbered[1], ending, numbered[2])] if numbered else [])
    for start, end, number in named:
        # Of a numbered photo, the clipped name without the number is another photo's.
        for form in ("NFC", "NFD") if number or not numbered else ():
            name = unicodedata.normalize(form, start + end)
            if len(name) > _MAX_STEM:
                yield f"{name[:_MAX_STEM]}{number}.json"
                yield f"{name[: _MAX_STEM - len(number)]}{number}.json"
        for length in (len(_META), 0, *range(len(_META) - 1, 0, -1)):
            yield f"{start}{_META[:length]}{number}.json"
            if len(start) >= _MAX_STEM:
                break
        yield f"{(start + _META)[:_MAX_STEM]}{number}.json"


def edited_from(photo: str) -> str:
    """The name of the photo that an edited copy was made from; empty for other names."""
    stem, ending = os.path.splitext(unicodedata.normalize("NFC", photo))
    numbered = _NUMBERED.fullmatch(stem)
    start, number = (numbered[1], numbered[2]) if numbered else (stem, "")
    suffix = next((word for word in _EDITED if start.casefold().endswith(word)), "")
    if not suffix and len(stem + ending) == _MAX_NAME:
        cuts = (word[:length] for word in _EDITED for length in range(len(word) - 1, 1, -1))
        suffix = next((cut for cut in cuts if start.casefold().endswith(cut)), "")
    original = start[: len(start) - len(suffix)] + number
    return original + ending if suffix and original != number else ""


def is_takeout(record: dict[str, Any]) -> bool:
    """Whether a JSON object is one of Takeout's: other programs write JSON beside photos too."""
    return isinstance(record.get("geoData"), dict) or isinstance(record.get("photoTakenTime"), dict)


def _takeout_point(data: Any) -> GeoPoint | None:
    if not isinstance(data, dict):
        return None
    lat, lon = finite_number(data.get("latitude")), finite_number(data.get("longitude"))
    # Takeout writes zeros, altitude included, for photos without a position.
    if lat is None or lon is None or (lat == 0 and lon == 0) or abs(lon) > 180:
        return None
    try:
        return GeoPoint(lat, lon, finite_number(data.get("altitude")))
    except InvalidPoint:
        return None
