"""Plain questions to a journal, read word by word: what is not understood is said, never passed
over.

when was I last within 50 m of 59.3293,18.0686
how often was I within 1 km of 59.3293,18.0686 this week
which answers were unsure on tuesday
how many photos were located since 2026-11-01
where was I yesterday
first verified answer between 2026-11-01 and 2026-11-08 in rain
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from whence.errors import BadOption, InvalidPoint
from whence.journal.question import Question
from whence.types import GeoPoint

EXAMPLES = (
    "when was I last within 50 m of 59.3293,18.0686",
    "which answers were unsure on tuesday",
    "how many photos were located since 2026-11-01",
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = rf"(?:\d{{4}}-\d{{2}}-\d{{2}}|today|yesterday|{'|'.join(WEEKDAYS)})"
_MOMENT = rf"{_DAY}(?:[ t]\d{{1,2}}:\d{{2}})?"
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_PLACE = rf"({_NUMBER})\s*,\s*({_NUMBER})"
_FILLERS = {
    *(
        "when",
        "where",
        "which",
        "what",
        "who",
        "was",
        "were",
        "is",
        "are",
        "did",
        "do",
        "does",
        "have",
        "has",
        "been",
        "had",
    ),
    *(
        "i",
        "we",
        "you",
        "it",
        "they",
        "me",
        "my",
        "the",
        "a",
        "an",
        "all",
        "any",
        "answer",
        "answers",
        "photo",
        "photos",
        "picture",
    ),
    *(
        "pictures",
        "frame",
        "frames",
        "that",
        "show",
        "list",
        "give",
        "tell",
        "find",
        "please",
        "and",
        "with",
        "of",
        "in",
        "at",
    ),
    *("time", "times", "place", "places", "there", "taken", "asked", "ones"),
}
_Reads = Callable[[re.Match[str], datetime], dict[str, Any]]


def parse_question(text: str, *, now: datetime) -> Question:
    """The question that words ask. Days are those of the calendar of `now`: of its time zone, or
    local where it has none.

    Raises `BadOption`, which names the words that were not understood and shows some that are.
    """
    left, found = text.lower().strip().rstrip("?!."), dict[str, Any]()
    for pattern, reads in _FORMS:
        matched = pattern.search(left)
        if matched is None:
            continue
        said = reads(matched, now)
        if again := sorted(set(said) & set(found)):
            raise BadOption(f"{text!r} says {again[0].replace('_', ' ')} twice")
        found |= said
        left = left[: matched.start()] + " " + left[matched.end() :]
    words = re.findall(r"[^\s,;]+", left)
    if unknown := [word for word in words if word.strip("?!.'\"") not in _FILLERS]:
        shown = "; ".join(repr(example) for example in EXAMPLES)
        raise BadOption(
            f"in {text!r}, {' '.join(map(repr, unknown))} was not understood. Questions look like "
            f"{shown}"
        )
    if not found and not words:
        raise BadOption(f"ask something, as {EXAMPLES[0]!r}")
    return Question(**found)


def _place(matched: re.Match[str], _: datetime) -> dict[str, Any]:
    try:
        return {"near": GeoPoint(float(matched[1]), float(matched[2]))}
    except InvalidPoint as error:
        raise BadOption(str(error)) from None


def _within(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    try:
        point = GeoPoint(float(matched[3]), float(matched[4]))
    except InvalidPoint as error:
        raise BadOption(str(error)) from None
    return {
        "near": point,
        "within_m": float(matched[1]) * (1000.0 if matched[2].startswith("k") else 1.0),
    }


def _between(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    return {
        "since": _moment(matched[1], now).timestamp(),
        "until": _end(matched[2], now).timestamp(),
    }


def _since(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    # "after a day" begins when that day is over; "since" with it.
    begins = _end(matched[2], now) if matched[1] == "after" else _moment(matched[2], now)
    return {"since": begins.timestamp()}


def _before(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    ends = _end(matched[2], now) if matched[1] in ("until", "till") else _moment(matched[2], now)
    return {"until": ends.timestamp()}


def _on(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    begins = _moment(matched[1], now)
    return {"since": begins.timestamp(), "until": _end(matched[1], now).timestamp()}


def _week(matched: re.Match[str], now: datetime) -> dict[str, Any]:
    monday = now.date() - timedelta(days=now.weekday() + (7 if matched[1] == "last" else 0))
    return {
        "since": _midnight(monday, now).timestamp(),
        "until": _midnight(monday + timedelta(days=7), now).timestamp(),
    }


def _moment(text: str, now: datetime) -> datetime:
    """The beginning of what a day, or a day with a time, names."""
    name, _, clock = (
        text.replace("t", " ", 1).partition(" ")
        if re.match(r"\d{4}-", text)
        else text.partition(" ")
    )
    if name in WEEKDAYS:
        # The latest such day that has begun.
        day = now.date() - timedelta(days=(now.weekday() - WEEKDAYS.index(name)) % 7)
    elif name in ("today", "yesterday"):
        day = now.date() - timedelta(days=name == "yesterday")
    else:
        try:
            day = date.fromisoformat(name)
        except ValueError:
            raise BadOption(f"there is no day {name}") from None
    found = _midnight(day, now)
    if clock:
        hour, minute = map(int, clock.split(":"))
        if hour > 23 or minute > 59:
            raise BadOption(f"there is no time {clock}")
        found = found.replace(hour=hour, minute=minute)
    return found


def _end(text: str, now: datetime) -> datetime:
    """Where it ends: the next midnight, or the next minute."""
    begins = _moment(text, now)
    return (
        begins + timedelta(minutes=1)
        if ":" in text
        else _midnight(begins.date() + timedelta(days=1), now)
    )


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)


def _says(**values: Any) -> _Reads:
    return lambda matched, now: dict(values)


_FORMS: tuple[tuple[re.Pattern[str], _Reads], ...] = tuple(
    (re.compile(pattern), reads)
    for pattern, reads in (
        (
            rf"\bwithin\s+(\d+(?:\.\d+)?)\s*(m|km|metres?|meters?|kilometres?|kilometers?)\s+(?:of|from|around)\s+{_PLACE}",
            _within,
        ),
        (rf"\b(?:near|at|around|by)\s+{_PLACE}", _place),
        (rf"\b(?:between|from)\s+({_MOMENT})\s+(?:and|to|until)\s+({_MOMENT})", _between),
        (rf"\b(since|after)\s+({_MOMENT})", _since),
        (rf"\b(before|until|till)\s+({_MOMENT})", _before),
        (rf"\b(?:on\s+|last\s+)?({_MOMENT})\b", _on),
        (r"\b(this|last)\s+week\b", _week),
        (r"\bhow\s+(?:many|often)\b|\bcount\b|\bnumber\b", _says(wants="count")),
        (r"\b(?:most\s+recent|last|latest|newest)\b", _says(order="latest", limit=1)),
        (r"\b(?:first|earliest|oldest)\b", _says(order="earliest", limit=1)),
        (r"\b(?:unsure|uncertain|doubtful|not\s+sure)\b", _says(is_unsure=True)),
        (r"\bsure\b", _says(is_unsure=False)),
        (r"\b(?:unknown|not\s+located)\b", _says(status="unknown")),
        (r"\blocated\b", _says(status="located")),
        (r"\bmatched\b", _says(status="matched")),
        (r"\bnot\s+verified\b|\bunverified\b", _says(is_verified=False)),
        (r"\bverified\b", _says(is_verified=True)),
        (
            r"\b(?:in|weather)\s+(rain|snow|fog|night|dusk|overcast|sun|day|clouds)\b",
            lambda matched, now: {"weather": matched[1]},
        ),
    )
)
