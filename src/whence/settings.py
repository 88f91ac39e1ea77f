"""Options as frozen objects, and where their values come from: flags over environment over file
over the defaults here.

The file is `whence.toml` in the working folder, or the one `WHENCE_CONFIG` names; environment
variables are `WHENCE_` plus the option's name in capitals. Unknown names in the file are refused
with the nearest ones.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from whence.errors import BadOption, UnknownName, UnreadableTable
from whence.records import fill, with_values

T = TypeVar("T")

DEFAULT_MODEL = "whence-lite0-words-960"
"""The model that describes photos where nobody names one."""
NONE = "none"
OTHERWISE = "geowarp:10"
"""What orders candidates that no matches speak for, where nobody says: a scorer, and how many of
them."""
DEVICES = ("auto", "cpu", "cuda")
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every command."""

    database: str = "photos.whence"
    """Database folder used where none is named."""
    model: str = DEFAULT_MODEL
    threads: int = 0
    """Threads of the numerical libraries; 0 for all cores."""
    offline: bool = False
    """Never touch the network."""
    max_pixels: int = 250_000_000
    """Photos that declare more pixels are not decoded: a small file can declare more than memory
    holds."""
    datasets: str = ""
    """Folder that holds published sets by name; without it, the one that DATASETS_FOLDER names."""
    journal: str = ""
    """File that every answer of `whence locate` is written to, see `whence journal`; empty for
    none."""
    device: str = "auto"
    """What networks run on: cpu, cuda, or auto, which takes a graphics card where there is one."""
    batch_size: int = 0
    """Photos that a network describes together; 0 for as many as the model likes."""
    workers: int = 0
    """Photos that are read at a time; 0 for one a core."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UnknownName("device", self.device, DEVICES)
        if min(self.batch_size, self.workers) < 0:
            raise BadOption("batch_size and workers are not negative")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a database is made."""

    model: str = DEFAULT_MODEL
    model_options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    """How descriptors are stored: float32, or float16 at half the size."""
    engine: str = "auto"
    """Search engine: "flat" and "int8" (exact), "auto" (exact for small databases, compact codes
    with rescoring for large ones), a faiss factory string, or a name that was registered as an
    "index"."""
    keep_local: bool | None = None
    """Keep local descriptors beside the global ones, for comparing candidates; None keeps them
    where the model has them anyway and those of all photos take at most
    `whence.localize.keeping.MOST_BYTES`."""
    commit_photos: int = 256
    """Photos described between two commits."""
    commit_seconds: float = 20.0
    """Seconds between two commits at most: what a killed run loses."""
    seed: int = 0
    allow_null_island: bool = False
    """Whether latitude 0, longitude 0 is a place; else it is what cameras and programs write for
    "no fix"."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise BadOption(f"descriptors are stored as float32 or float16, not {self.dtype!r}")
        if self.commit_photos < 1:
            raise BadOption(f"commit_photos must be at least 1, not {self.commit_photos}")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a chain of scorers, and what it may take."""

    scorer: str
    num_candidates: int
    """Candidates of the stage before that are compared."""
    max_seconds: float | None = None
    """Seconds per query after which the stage compares no further candidate; None for no limit."""


def is_chain(scorer: str) -> bool:
    """Whether the name of a scorer is a chain of them, as `parse_stages` reads it."""
    return ":" in scorer or "," in scorer


def parse_stages(text: str) -> tuple[Stage, ...]:
    """The stages of NAME:PHOTOS[:SECONDSs], joined by commas: "geowarp:100,inliers:10" or
    "rapid:100:0.5s,inliers:10".

    Raises `BadOption` where a stage has no number of photos, or would compare more than the stage
    before it.
    """
    stages: list[Stage] = []
    for part in text.split(","):
        name, _, budget = part.strip().partition(":")
        num, _, seconds = budget.partition(":")
        try:
            stage = Stage(name, int(num), float(seconds.removesuffix("s")) if seconds else None)
        except ValueError:
            raise BadOption(
                "a stage is NAME:PHOTOS or NAME:PHOTOS:SECONDSs, for example inliers:10:0.5s; "
                f"not {part!r}"
            ) from None
        if (
            not name
            or stage.num_candidates < 1
            or (stage.max_seconds is not None and not stage.max_seconds > 0)
        ):
            raise BadOption(
                f"a stage needs a scorer, at least one photo and more than no time; not {part!r}"
            )
        if stages and stage.num_candidates > stages[-1].num_candidates:
            raise BadOption(
                f"{part!r} cannot compare more photos than the stage before it, "
                f"{stages[-1].num_candidates}"
            )
        stages.append(stage)
    return tuple(stages)


def load_settings(
    *,
    flags: Mapping[str, Any] = NO_OPTIONS,
    environ: Mapping[str, str] | None = None,
    file: str | Path | None = None,
) -> Settings:
    """The settings in force; `flags` with value None count as absent. Raises `BadOption`,
    `UnknownName`, `UnreadableTable`."""
    environ = os.environ if environ is None else environ
    known = {entry.name: entry for entry in fields(Settings)}
    values: dict[str, Any] = dict(
        _read_file(file if file is not None else environ.get("WHENCE_CONFIG"), known)
    )
    values |= {
        name: environ[f"WHENCE_{name.upper()}"]
        for name in known
        if environ.get(f"WHENCE_{name.upper()}")
    }
    values |= {name: value for name, value in flags.items() if value is not None}
    return fill(
        Settings,
        {name: _out_of_text(name, value) for name, value in values.items()},
        what="setting",
    )


def _read_file(file: str | Path | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
    path = Path(file) if file is not None else Path("whence.toml")
    if file is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableTable(path, str(error)) from None
    for name in table:
        if name not in values:
            raise UnknownName(f"setting in {str(path)!r}", name, values)
    return table


_TRUTHS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)


def _out_of_text(name: str, value: Any) -> Any:
    """The value of a setting that is none of text but may have been given as one: in the
    environment everything is text."""
    kind = type(getattr(Settings(), name, ""))
    if kind is bool:
        return _TRUTHS.get(str(value).lower(), value)
    if isinstance(value, str) and kind is int:
        with contextlib.suppress(ValueError):
            return int(value)
    return value


def parse_options(assignments: Sequence[str]) -> dict[str, Any]:
    """Options from texts "name=value", values read as TOML where they are (256, true, [1, 2]), else
    as text."""
    options: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadOption(f"{text!r} is not of the form name=value")
        try:
            options[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            options[name.strip()] = value.strip()
    return options


def with_assignments(record: T, assignments: Sequence[str]) -> T:
    """The record with fields replaced as texts "field=value" say: for a text the value as it
    stands, for a list "10,25" too, and for what has names of its own "field.name=value".

    Raises `BadOption` and `UnknownName`, as `fill` does.
    """
    hints = typing.get_type_hints(type(record))
    for text in assignments:
        ((name, value),) = parse_options([text]).items()
        first, dot, key = name.partition(".")
        if dot and typing.get_origin(hints.get(first)) is Mapping:
            # Names of options may hold dots themselves, as those of a chain's stage.
            record = with_values(record, {first: {**getattr(record, first), key: value}})
            continue
        kinds = typing.get_args(hints.get(name)) or (hints.get(name),)
        origins = {typing.get_origin(kind) or kind for kind in (hints.get(name), *kinds)}
        if str in origins and not isinstance(value, str):
            value = text.partition("=")[2].strip()
        elif tuple in origins and not isinstance(value, list):
            value = [parse_options([f"part={part}"])["part"] for part in str(value).split(",")]
        record = with_values(record, {name: value})
    return record
