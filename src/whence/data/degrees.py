"""Latitudes and longitudes as people and programs write them, to signed degrees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Axis(NamedTuple):
    """An axis of the globe: the letters of its halves, and how far it goes."""

    positive: str
    negative: str
    limit_deg: float


LATITUDE, LONGITUDE = Axis("N", "S", 90.0), Axis("E", "W", 180.0)

_SIDE = r"(north|south|east|west|[nsew])?"
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]-\d+)?"
_BETWEEN = r"(?:\s*(?:°|º|˚|deg(?:rees)?|['’′:,;])\s*|\s+)"
_AFTER = r"(?:\s*(?:°|º|˚|deg(?:rees)?|''|['’′\"”″]))?"
_FORM = re.compile(
    rf"{_SIDE}\s*([+-]?)\s*({_NUMBER}(?:{_BETWEEN}{_NUMBER}){{0,2}}){_AFTER}\s*{_SIDE}",
    re.IGNORECASE | re.ASCII,
)


def join_degrees(parts: Sequence[float], *, letter: str, axis: Axis) -> float | None:
    """Signed degrees from degrees, minutes and seconds (the last ones may be missing) and a
    hemisphere letter.

    Writers that round up leave 60 minutes or seconds: they carry over. A minus beside the southern
    or western letter is that same half, once; beside the other letter, and anywhere else, it is a
    contradiction.
    """
    if letter not in (axis.positive, axis.negative) or not letter or not 1 <= len(parts) <= 3:
        return None
    whole, minutes, seconds = (*parts, 0.0, 0.0)[:3]
    if not (0 <= minutes <= 60 and 0 <= seconds <= 60) or (whole < 0 and letter == axis.positive):
        return None
    size = abs(whole) + minutes / 60 + seconds / 3600
    if size > axis.limit_deg:
        return None
    return -size if letter == axis.negative else size


def parse_degrees(text: str, axis: Axis, *, ref: str = "") -> float | None:
    """Signed degrees from "33.8688 S", "-33.8688", "33 deg 52' 7.68\\" S" or "33,52.128S", and a
    hemisphere stated apart.

    None where they contradict each other, where the number does not lie on the axis, and for
    minutes without any sign.
    """
    match = _FORM.fullmatch(text.strip().replace("\u2212", "-").replace("\u2013", "-"))
    if match is None:
        return None
    numbers = re.findall(_NUMBER, match[3])
    if any("." in number for number in numbers[:-1]):
        return None
    letters = {side.strip().upper()[:1] for side in (match[1], match[4], ref.strip(" \0")) if side}
    # A minus before zero is no direction.
    sign = match[2] if any(float(number) for number in numbers) else ""
    if len(letters) > 1 or (len(numbers) > 1 and not letters and not sign):
        return None
    letter = next(iter(letters), axis.negative if sign == "-" else axis.positive)
    if sign and (sign == "-") != (letter == axis.negative):
        return None
    return join_degrees([float(number) for number in numbers], letter=letter, axis=axis)
