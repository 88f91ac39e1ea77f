"""Addresses of tables on servers, boxes in degrees, and what keeps secrets out of the one and out
of errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from whence.errors import BadOption, StoreError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")


class Address(NamedTuple):
    """Where a table is. No password is ever part of it."""

    scheme: str
    host: str
    port: int | None
    user: str
    database: str
    """Of PostgreSQL."""
    table: str
    options: Mapping[str, str]
    text: str
    """As it was given."""


def parse_address(text: str, *, option_names: Sequence[str]) -> Address:
    """An address taken apart; `option_names`: of options it may have. Raises `BadOption`, which
    never shows a password.

    milvus://HOST:PORT/COLLECTION and postgresql://USER@HOST:PORT/DATABASE?table=NAME
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadOption(
            "this address of an engine cannot be read; it looks like milvus://HOST:PORT/COLLECTION"
        ) from None
    if parts.password is not None:
        raise BadOption(
            "an engine's address holds no password: it would be kept in the database; see "
            "docs/engines.md for where it goes"
        )
    options = dict(parse_qsl(parts.query))
    if wrong := sorted(set(options) - set(option_names)):
        raise BadOption(
            f"an address of {parts.scheme} has no option {wrong[0]!r}; it knows "
            f"{', '.join(option_names)}"
        )
    path = unquote(parts.path.strip("/"))
    database, table = (
        (path, options.pop("table", "whence"))
        if parts.scheme == "postgresql"
        else ("", path or "whence")
    )
    if not _NAME.fullmatch(table):
        raise BadOption(
            "a table's name has letters, digits and underscores, at most 48 and no digit first; "
            f"not {table[:60]!r}"
        )
    host = parts.hostname or ""
    return Address(
        parts.scheme, host, port, unquote(parts.username or ""), database, table, options, text
    )


def is_exact(address: Address) -> bool:
    """Whether the server is to compare every row, and keep no graph."""
    return address.options.get("exact") in ("1", "true", "yes")


class Box(NamedTuple):
    """Degrees; `west` lies east of `east` where the date line is inside."""

    south: float
    west: float
    north: float
    east: float


def secret(variable: str, environment: Mapping[str, str], read: Callable[[str], str]) -> str:
    """The secret in an environment variable, else in the file that VARIABLE_FILE names; empty
    without either."""
    if value := environment.get(variable):
        return value
    file = environment.get(f"{variable}_FILE")
    return read(file).strip() if file else ""


def told(error: Exception, address: Address, *, secrets_of: Sequence[str] = ()) -> StoreError:
    """A server's error as ours: its first line, without anything secret."""
    said: Any = str(error).strip().splitlines()
    sentence = said[0] if said else type(error).__name__
    for one in filter(None, secrets_of):
        sentence = sentence.replace(one, "...")
    return StoreError(address.text, f"the server cannot be used: {sentence}")
