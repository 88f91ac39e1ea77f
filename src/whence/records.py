"""Records out of text and JSON: frozen dataclasses, filled from tables of values by name, and back
to tables.

The house's values (recipes, settings, cards, options) are standard frozen dataclasses; `fill` is
the one way into them. What a field may hold is what its annotation says, checked strictly by
pydantic, which is imported when the first value needs it.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union

from whence.errors import BadOption, UnknownName

T = TypeVar("T")
TAG = "kind"
"""The field that tells the members of a union of records apart; each has it, as
`kind: Literal["its name"] = "its name"`."""
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "a list",
    list: "a list",
    NoneType: "nothing",
}


def fill(kind: type[T], values: Mapping[str, Any], *, what: str = "field") -> T:
    """The record of a kind with these values, from JSON, TOML or Python; fields that are left out
    keep their defaults.

    Whole numbers may stand for broken ones and lists for tuples; nothing else is converted. Records
    lie within records as tables, also in tuples and mappings; where a field holds one of several
    kinds of record, the table's `kind` says which, or, left out, the field's default. Raises
    `UnknownName` for names that do not exist, `what` being what they are names of, and `BadOption`
    for values of another kind; both name the field in dots, "branches.0.loss.name".
    """
    try:
        return _record(kind, values, "", what)
    except RecursionError:
        raise BadOption(f"the values of {what} are nested too deeply") from None


def check(hint: Any, value: Any, name: str) -> Any:
    """The value as an annotation wants it, for values that lie in no record. Raises as `fill` does,
    of the field `name`."""
    return _value(hint, value, name, name, None)


def as_values(record: Any) -> dict[str, Any]:
    """The table that `fill` makes the record of again; what lies in mappings and tuples stays as it
    is, unless it is a record."""
    table: dict[str, Any] = _as_table(record)
    return table


def finite_values(value: Any, *, digits: int | None = None) -> Any:
    """The value without numbers that JSON does not know: nothing in place of infinite ones and NaN;
    others rounded to `digits`."""
    if isinstance(value, Mapping):
        return {str(key): finite_values(inner, digits=digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_values(inner, digits=digits) for inner in value]
    if not isinstance(value, float):
        return value
    return None if not math.isfinite(value) else value if digits is None else round(value, digits)


def field_names(record: Any, prefix: str = "") -> tuple[str, ...]:
    """All fields that can be replaced, by dotted name; records in tuples are counted from 0."""
    names: list[str] = []
    for name, value in _parts(record):
        names += (
            field_names(value, f"{prefix}{name}.") if _holds_records(value) else [prefix + name]
        )
    return tuple(names)


def with_values(record: T, values: Mapping[str, Any], *, what: str = "field") -> T:
    """The record with values replaced by dotted name, one after the other. Raises as `fill` does.

    The last name may be a key of a mapping. A new `kind` makes a record of that kind, with its
    defaults.
    """
    for name, value in values.items():
        try:
            table = _with(record, name.split("."), value)
        except LookupError:
            raise UnknownName(what, name, field_names(record)) from None
        record = fill(type(record), table, what=what)
    return record


def _record(kind: type[T], values: Any, prefix: str, what: str) -> T:
    if not isinstance(values, Mapping):
        raise BadOption(f"{prefix.removesuffix('.') or what} is a table, not {_shown(values)}")
    hints, known = _hints(kind), {entry.name: entry for entry in fields(kind) if entry.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UnknownName(what, f"{prefix}{name}", [prefix + other for other in known])
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise BadOption(f"{prefix}{name} is missing")
    return kind(
        **{
            name: _value(hints[name], value, prefix + name, what, known[name])
            for name, value in values.items()
        }
    )


def _value(hint: Any, value: Any, name: str, what: str, entry: Field[Any] | None) -> Any:
    if type(value) is hint:
        return value
    members = _members(hint)
    if members and (
        isinstance(value, members) or (value is None and NoneType in typing.get_args(hint))
    ):
        return value
    if members:
        return _record(_member(members, value, name, entry), value, f"{name}.", what)
    if not _speaks_of_records(hint):
        return _plain(hint, value, name)
    for one in _alternatives(hint):
        origin, parts = typing.get_origin(one) or one, typing.get_args(one)
        if origin is NoneType and value is None:
            return None
        if (
            origin is tuple
            and isinstance(value, list | tuple)
            and (parts[-1] is Ellipsis or len(parts) == len(value))
        ):
            kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
            return tuple(
                _value(kinds[i], value[i], f"{name}.{i}", what, None) for i in range(len(value))
            )
        if (
            origin is not tuple
            and isinstance(value, Mapping)
            and all(isinstance(key, str) for key in value)
        ):
            return {
                key: _value(parts[1], inner, f"{name}.{key}", what, None)
                for key, inner in value.items()
            }
    raise _refusal(hint, value, name)


def _plain(hint: Any, value: Any, name: str) -> Any:
    """A value that holds no records. What is plainly right is not shown to pydantic, whose import
    would cost every command."""
    if (
        hint == Mapping[str, Any]
        and type(value) is dict
        and all(isinstance(key, str) for key in value)
    ):
        return value
    from pydantic import ValidationError

    given = (
        dict(value)
        if isinstance(value, Mapping)
        else _as_tuples(value)
        if _takes_tuples(hint)
        else value
    )
    try:
        return _adapter(hint).validate_python(given, strict=True)
    except ValidationError:
        raise _refusal(hint, value, name) from None


@functools.cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)


@functools.cache
def _members(hint: Any) -> tuple[type, ...]:
    """The kinds of record that a field may hold."""
    return tuple(one for one in _alternatives(hint) if isinstance(one, type) and is_dataclass(one))


def _member(members: tuple[type, ...], value: Any, name: str, entry: Field[Any] | None) -> type:
    """The member of a union that a table is meant for: the one with its tag, or that of the field's
    default.

    A single record that has `of_kind` stands for all that it finds by their tags.
    """
    find: Callable[[str], type] | None = getattr(members[0], "of_kind", None)
    if not isinstance(value, Mapping) or (len(members) == 1 and find is None):
        return members[0]
    if find is not None and TAG in value:
        return find(str(value[TAG]))
    tags = (
        {}
        if find is not None
        else {tag: member for member in members for tag in typing.get_args(_hints(member)[TAG])}
    )
    if TAG in value:
        tag = str(value[TAG])
        if tag not in tags:
            raise UnknownName(f"value of {name}.{TAG}", tag, tags)
        return tags[tag]
    if entry is not None:
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if isinstance(default, members):
            return type(default)
    raise BadOption(f"{name} needs a {TAG}{': ' if tags else ''}{' or '.join(map(repr, tags))}")


@functools.cache
def _speaks_of_records(hint: Any) -> bool:
    return bool(_members(hint)) or any(map(_speaks_of_records, typing.get_args(hint)))


def _takes_tuples(hint: Any) -> bool:
    return any(one is tuple or typing.get_origin(one) is tuple for one in _alternatives(hint))


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _refusal(hint: Any, value: Any, name: str) -> UnknownName | BadOption:
    kinds = _alternatives(hint)
    words = [
        word for one in kinds if typing.get_origin(one) is Literal for word in typing.get_args(one)
    ]
    if words:
        return UnknownName(f"value of {name}", str(value), map(str, words))
    return BadOption(
        f"{name} is {' or '.join(_wanted(one, value) for one in kinds)}, not {_shown(value)}"
    )


def _wanted(hint: Any, value: Any) -> str:
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is not tuple or not parts or not isinstance(value, list | tuple):
        return _WORDS.get(origin, "a table")
    num = "" if parts[-1] is Ellipsis else f"{len(parts)} "
    each = _wanted(parts[0], None) if len({*parts} - {Ellipsis}) == 1 else ""
    return f"a list of {num}values" + (f", each {each}" if each else "")


def _shown(value: Any) -> str:
    return f"{value!r:.100}"


def _parts(record: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a record or the rows of a tuple, by name."""
    if isinstance(record, tuple):
        yield from ((str(i), row) for i, row in enumerate(record))
    else:
        yield from (
            (entry.name, getattr(record, entry.name)) for entry in fields(record) if entry.init
        )


def _holds_records(value: Any) -> bool:
    return is_dataclass(value) or (isinstance(value, tuple) and any(map(is_dataclass, value)))


def _as_table(value: Any) -> Any:
    if is_dataclass(value):
        return {name: _as_table(inner) for name, inner in _parts(value)}
    if isinstance(value, Mapping):
        return {key: _as_table(inner) for key, inner in value.items()}
    return [_as_table(row) for row in value] if _holds_records(value) else value


def _with(part: Any, path: list[str], value: Any) -> Any:
    """The part as a table or a list with the value put at the path. Raises `LookupError` where
    nothing can be put."""
    first, rest = path[0], path[1:]
    if isinstance(part, Mapping) and not rest:
        return {**part, first: value}
    if not _holds_records(part):
        raise LookupError
    inner = dict(_parts(part))
    if first == TAG and not rest and is_dataclass(part) and value != inner.get(TAG):
        return {TAG: value}
    if not rest and _holds_records(inner[first]):
        raise LookupError
    inner[first] = _with(inner[first], rest, value) if rest else value
    return list(inner.values()) if isinstance(part, tuple) else inner
