"""The one place to compute of a worker, and the bounded line before it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from whence.server.measures import Measures
from whence.server.memory import give_back

T = TypeVar("T")
RETRY_S = 2
_REST_S = 5.0
"""Seconds between two times that memory is given back."""


class Busy(Exception):
    """The line is full: come again in `RETRY_S` seconds."""


class WaitingLine:
    """Work is done one after the other; at most `most` wait or compute at once."""

    def __init__(
        self, most: int, measures: Measures, *, num_threads: int = 1, name: str = "compute"
    ) -> None:
        self.most, self.measures = most, measures
        self.num_waiting = 0
        self._rested = time.monotonic()
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=f"whence-{name}")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of the work, when its turn has come. Raises `Busy`; work whose asker left
        before its turn is not begun."""
        if self.num_waiting >= self.most:
            raise Busy
        loop = asyncio.get_running_loop()
        self._count(1)
        future: Future[T] = self._pool.submit(work)
        future.add_done_callback(
            lambda _: loop.call_soon_threadsafe(self._count, -1) if not loop.is_closed() else None
        )
        return await asyncio.wrap_future(future)

    def _count(self, change: int) -> None:
        self.num_waiting += change
        self.measures.waiting.inc(change)
        if not self.num_waiting and time.monotonic() - self._rested > _REST_S:
            self._rested = time.monotonic()
            with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                self._pool.submit(give_back)

    def close(self) -> None:
        """Wait for what computes; what waits is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
