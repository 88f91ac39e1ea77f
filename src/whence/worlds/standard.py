"""The field's standard folders, and what every layout can say: which photos, where they go, what is
written beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whence.worlds.capture import CaptureOptions, CityShots, Shot, plan_shots
from whence.worlds.conditions import Run
from whence.worlds.photographer import Photographer
from whence.worlds.plan import CityPlan
from whence.worlds.presets import CitySize
from whence.worlds.works import CityWork

if TYPE_CHECKING:
    from whence.worlds.raster import Raster


class Folders:
    """The field's standard folders with "@" names; what the other layouts differ from."""

    def cities(self, cities: tuple[CitySize, ...]) -> tuple[CitySize, ...]:
        """The cities to render instead of a preset's."""
        return cities

    def capture(self, size: CitySize, options: CaptureOptions) -> CaptureOptions:
        """How one city is photographed."""
        return options

    def shots(self, plan: CityPlan, size: CitySize, options: CaptureOptions) -> CityShots:
        """The photos of one city."""
        return plan_shots(
            plan,
            num_database=size.num_database,
            num_queries=size.num_queries,
            num_unknown=size.num_unknown,
            options=options,
        )

    def path(self, size: CitySize, shot: Shot, name: str, run: Run) -> str:
        """Where a photo goes, relative to the world's folder."""
        condition = "" if shot.role == "database" else f"{shot.condition}/"
        city = f"{size.name}/" if size.split else ""
        return f"{split_folder(size)}{shot.role}/{condition}{city}{name}"

    def write_tables(self, out: Path, works: Sequence[CityWork]) -> None:
        """Write the layout's own files; here the names say everything."""

    def write_truth(self, out: Path, path: str, raster: Raster, photographer: Photographer) -> None:
        """Write pictures that belong to a photo, before the photo."""

    def write_last(self, out: Path, works: Sequence[CityWork]) -> None:
        """Write what follows from all photos and their truth, once they are there."""

    def photographer(self, work: CityWork, *, px_per_m: float, cache_bytes: int) -> Photographer:
        """Who takes a city's photos."""
        return Photographer(
            work.plan,
            work.shots.runs,
            options=work.capture,
            px_per_m=px_per_m,
            cache_bytes=cache_bytes,
        )

    def remarks(self, out: Path) -> tuple[str, ...]:
        """Sentences that a person should know about a world that is rendered."""
        return ()


def split_folder(size: CitySize) -> str:
    """The folder of a city's split, with a slash; empty where the world has one city."""
    return f"{size.split}/" if size.split else ""
