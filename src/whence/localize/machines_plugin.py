"""What dask gives to every worker of a cluster, whenever it comes. Apart, since it derives from a
class of an optional package."""

from __future__ import annotations

from typing import Protocol

from distributed.diagnostics.plugin import WorkerPlugin


class Shared(Protocol):
    """What is kept in a worker."""

    def setup(self, worker: object) -> None: ...


class Sharing(WorkerPlugin):  # type: ignore[misc]
    """Lets a worker keep something."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def setup(self, worker: object) -> None:
        """Called in each worker."""
        self.shared.setup(worker)
