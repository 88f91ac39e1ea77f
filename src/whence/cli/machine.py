"""What a command runs on: `--device`, `--batch-size` and `--workers`, before a verb or behind it,
for all that runs models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

OPTIONS = {
    "--device": "WHENCE_DEVICE",
    "--batch-size": "WHENCE_BATCH_SIZE",
    "--workers": "WHENCE_WORKERS",
}
"""Options that are settings of one command."""
OWN = {
    "serve": ("--workers",),
    "world": ("--workers",),
    "tiles": ("--workers",),
    "federate": ("--workers", "--device", "--batch-size"),
}
"""Verbs that have an option of the same name themselves, for something else."""


def taken_out(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The other arguments, and the settings that these options give. An option without a value
    stays, and is refused later."""
    verb = next(
        (word for word in arguments if not word.startswith("-") and word not in OPTIONS), ""
    )
    place = arguments.index(verb) if verb else 0
    rest: list[str] = []
    given: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        is_behind = len(arguments) - len(words) > place
        if word == "--":
            return [*rest, word, *words], given
        if (
            name not in OPTIONS
            or (is_behind and name in OWN.get(verb, ()))
            or not (equals or words)
        ):
            rest.append(word)
            continue
        given[OPTIONS[name]] = value if equals else words.pop(0)
    return rest, given


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables, inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
