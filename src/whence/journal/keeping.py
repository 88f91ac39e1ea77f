"""Answers kept as they are given: in the journal that is named, with when photos were taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from whence.data.metadata import read_clocks
from whence.errors import BadOption, WhenceError
from whence.journal.log import Journal
from whence.localize.localizer import Localizer
from whence.settings import load_settings
from whence.types import Position


class Log:
    """Where answers of `whence locate` are kept; nowhere without a journal."""

    def __init__(self, journal: Journal | None, weather: str) -> None:
        self._journal, self._weather = journal, weather

    def add(
        self,
        positions: Sequence[Position],
        *,
        localizer: Localizer,
        taken_at: Sequence[float | None] | None = None,
    ) -> None:
        """Append answers. Times of capture, seconds since 1970, are those of the photos' files
        where they are not given."""
        if self._journal is None:
            return
        times = [taken_of(one.query) for one in positions] if taken_at is None else taken_at
        model, store = localizer.model.card.name, localizer.store.path.name
        self._journal.append(
            positions, taken_at=times, weather=self._weather, model=model, store=store
        )


@contextmanager
def opened_log(file: str | None, weather: str) -> Iterator[Log]:
    """The journal of --journal, else of the setting, else none. Raises `BadOption` for a weather
    without a journal."""
    chosen = load_settings(flags={"journal": file}).journal
    if not chosen:
        if weather:
            raise BadOption("--weather goes with --journal FILE")
        yield Log(None, weather)
        return
    with Journal.open(chosen) as journal:
        yield Log(journal, weather)


def taken_of(path: str) -> float | None:
    """When a photo was taken, seconds since 1970, as its file says; a time without a zone is this
    machine's."""
    try:
        found = read_clocks(path).time
        return None if found is None else found.timestamp()
    except (WhenceError, OSError, OverflowError, ValueError):
        return None
