"""Protocols of `whence evaluate` that are a way of their own: by name, what evaluates a folder with
a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from whence.cli.landmarks import evaluate_landmarks
from whence.cli.orbital import evaluate_photos_from_orbit
from whence.cli.registration_evaluation import evaluate_registration
from whence.errors import BadOption


class Protocol(NamedTuple):
    """What evaluates, and which fields of `--set` it takes."""

    evaluate: Callable[..., int]
    fields: tuple[str, ...] = ()


PROTOCOLS: Mapping[str, Protocol] = {
    "revisited": Protocol(evaluate_landmarks),
    "earthloc": Protocol(evaluate_photos_from_orbit, ("split", "queries_folder")),
    "registration": Protocol(evaluate_registration),
}


def evaluate_by(
    name: str, folder: str, model: str, options: Mapping[str, Any], fields: Any, *, as_json: bool
) -> int:
    """The exit code of a protocol. Raises `BadOption` for fields that say what it does not take."""
    protocol, plain = PROTOCOLS[name], type(fields)()
    for entry in dataclasses.fields(fields):
        is_said = getattr(fields, entry.name) != getattr(plain, entry.name)
        if is_said and entry.name not in protocol.fields:
            raise BadOption(f"--set {entry.name} does nothing with --protocol {name}")
    chosen = {field: getattr(fields, field) for field in protocol.fields}
    return protocol.evaluate(folder, model, options, **chosen, as_json=as_json)
