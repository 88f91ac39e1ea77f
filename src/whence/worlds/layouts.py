"""How a world's files lie: one class per layout of the field. Each names the photos and writes the tables that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from whence.errors import UnknownName
from whence.worlds.capture import Shot
from whence.worlds.presets import CitySize

if TYPE_CHECKING:
    from whence.worlds.city import CityWork


class Layout(Protocol):
    """What a layout decides."""

    def path(self, size: CitySize, shot: Shot, name: str) -> str:
        """Where a photo goes, relative to the world's folder."""
        ...

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """Write the layout's own files beside the photos."""
        ...


class Folders:
    """[split/]{database, queries/condition, queries_unknown/condition}/[city/]name.jpg with "@" names."""

    def path(self, size: CitySize, shot: Shot, name: str) -> str:
        condition = "" if shot.role == "database" else f"{shot.condition}/"
        city = f"{size.name}/" if size.split else ""
        split = f"{size.split}/" if size.split else ""
        return f"{split}{shot.role}/{condition}{city}{name}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """The names say everything."""


LAYOUTS: Mapping[str, Layout] = {"folders": Folders()}


def get_layout(name: str) -> Layout:
    """The layout of that name. Raises `UnknownName`."""
    if name not in LAYOUTS:
        raise UnknownName("layout", name, LAYOUTS)
    return LAYOUTS[name]
