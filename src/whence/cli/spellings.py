"""Old spellings of the command line: each is answered with the new one, for one release."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_MOVED = ("--missing", "--undo")


def new_spelling(arguments: Sequence[str]) -> str:
    """The command that says today what `arguments` said in the release before; empty where they are not an old spelling."""
    if not arguments or arguments[0] != "locate":
        return ""
    parts = list(arguments[1:])
    if "--" in parts:
        parts = parts[: parts.index("--")]
    parts = [piece for part in parts for piece in _pieces(part)]
    for old, verb in zip(_MOVED, ("tag", "undo"), strict=True):
        if old not in parts:
            continue
        place = parts.index(old)
        words = ["whence", verb, *parts[place + 1 : place + 2], *parts[:place], *parts[place + 2 :]]
        return shlex.join(words)
    return ""


def _pieces(part: str) -> tuple[str, ...]:
    name, equals, value = part.partition("=")
    return (name, value) if equals and name in _MOVED else (part,)
