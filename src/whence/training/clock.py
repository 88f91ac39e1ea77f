"""Seconds of a training by what was done in them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds by what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {
            "waiting": 0.0,
            "augmenting": 0.0,
            "mining": 0.0,
            "learning": 0.0,
        }

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Count the time within as spent on this."""
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started

    @property
    def total(self) -> float:
        """All seconds counted; never 0."""
        return max(sum(self.seconds.values()), 1e-9)

    def shares(self) -> dict[str, float]:
        """Shares of the time in which was waited, augmented and mined."""
        return {
            f"{what}_share": self.seconds[what] / self.total
            for what in ("waiting", "augmenting", "mining")
        }
