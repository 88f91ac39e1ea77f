"""Tables of parts that grow: rows that rooms own, rows that were registered, and those of installed
plug-ins.

A plug-in is a package that names a module in the entry point group `whence`. The module registers
its parts when it is imported: when a name is looked for that stands nowhere else, or when names are
listed.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, MutableMapping
from importlib.metadata import entry_points
from typing import Any

from whence.cards import Entry

PLUGINS = "whence"
"""The entry point group of plug-ins."""


class Table(MutableMapping[str, Entry]):
    """The parts of one kind by name: rows of the rooms that own them, and what was registered."""

    def __init__(self, *rows: str, resolver: str = "") -> None:
        """`rows`: tables as "module:attribute"; `resolver`: a function that makes the entry of a
        name that stands in none."""
        self._unread, self._resolver = rows, resolver
        self._rows: dict[str, Entry] = {}

    def find(self, name: str) -> Entry | None:
        """The entry of a name, a plug-in's if need be, or one made for it; None where there is
        none."""
        if (
            name not in self.own()
            and self._resolver
            and (made := _attribute(self._resolver)(name)) is not None
        ):
            found: Entry = made
            return found
        return self.own().get(name) or self._whole().get(name)

    def own(self) -> dict[str, Entry]:
        """The rows without those of plug-ins that were not asked for yet."""
        unread, self._unread = self._unread, ()
        for row in reversed(unread):
            self._rows = {**_attribute(row), **self._rows}
        return self._rows

    def _whole(self) -> dict[str, Entry]:
        load_plugins()
        return self.own()

    def __getitem__(self, name: str) -> Entry:
        return self.own()[name] if name in self.own() else self._whole()[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self.own()[name] = entry

    def __delitem__(self, name: str) -> None:
        del self.own()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


def _attribute(dotted: str) -> Any:
    module, _, attribute = dotted.partition(":")
    return getattr(importlib.import_module(module), attribute)


_LOADED: list[str] = []


def load_plugins() -> None:
    """Import every plug-in's module once; one that cannot be imported is named in a warning and
    passed over."""
    if _LOADED:
        return
    _LOADED.append(PLUGINS)
    for point in entry_points(group=PLUGINS):
        try:
            point.load()
            _LOADED.append(point.name)
        except (Exception, SystemExit) as error:
            warnings.warn(
                f"the plug-in {point.name!r} ({point.value}) cannot be loaded: {error}",
                stacklevel=2,
            )
