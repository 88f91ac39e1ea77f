"""Describing on many machines: photos go in batches to the workers of a dask cluster, and one
process writes what comes back.

What a batch holds does not depend on who describes it, so the database is that of a single process.
A worker that dies is replaced by its nanny or the cluster, and its batches are given to others; the
run itself, stopped or killed, goes on where the database ends, as always.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.decoding import open_file
from whence.errors import BadOption, InputError, MissingExtra, UnreadableImage
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.runtime import in_chunks, num_cores, set_threads
from whence.types import PhotoSource

if TYPE_CHECKING:
    from distributed import Client, Future

BATCHES_AHEAD = 3
"""Batches that wait for each worker beside the one it describes."""
ANSWER_S = 30
MOST_TRIES = 20
PAUSE_S = 0.5
"""How often a batch whose worker dies is given to another."""
_LOCAL = re.compile(r"local(?::(\d+))?")
_specs: dict[str, ModelSpec] = {}
_models: dict[str, DescriptorModel] = {}
"""Of a worker's process: what it was told of, and what it has loaded."""


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load the very model that the database has; told to every worker, also
    to those that come later."""

    name: str
    options: Mapping[str, Any]
    state: Mapping[str, np.ndarray]
    key: str
    """Stands for all of it."""

    def setup(self, worker: object) -> None:
        """Keep it in a worker, which loads the model with its first batch."""
        _specs[self.key] = self

    def load(self) -> DescriptorModel:
        """The model."""
        model = load_model(self.name, options=dict(self.options))
        if self.state:
            model.descriptor.load_state(dict(self.state))
        return model


def describe_batch(
    key: str, sources: list[tuple[str, PhotoSource]], keep_local: bool
) -> list[Described | tuple[str, str]]:
    """In a worker: descriptors of photos in their order, and for one that cannot be read its name
    and what is wrong."""
    if key not in _models:
        set_threads(1)
        _models.clear()
        _models[key] = _specs[key].load()
    found: list[Described | tuple[str, str]] = []
    described = _models[key].describe_each([source for _, source in sources], keep_local=keep_local)
    for (name, _), one in zip(sources, described, strict=True):
        found.append(one if isinstance(one, Described) else (name, one.reason))
    return found


class Machines:
    """The workers of a dask cluster, of this machine or elsewhere. Close it, or use it as a
    context."""

    def __init__(self, address: str, *, sends_photos: bool = False) -> None:
        """`address`: tcp://SCHEDULER:8786, or local:N for N processes of this machine.
        `sends_photos`: read them here, where workers do not see the same folders. Raises
        `MissingExtra`, `BadOption`, and `InputError` where nobody answers."""
        try:
            import dask
            import distributed
        except ImportError:
            raise MissingExtra("describing on a cluster", "cluster") from None
        self.sends_photos = sends_photos
        local = _LOCAL.fullmatch(address)
        if local is None and "://" not in address:
            raise BadOption(
                "a cluster is tcp://SCHEDULER:8786, or local:N for N processes of this machine, "
                f"not {address!r}"
            )
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": MOST_TRIES,
                "distributed.admin.tick.limit": "1h",
            }
        )
        self._own: Any = None
        try:
            if local is not None:
                workers = int(local[1] or num_cores())
                self._own = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,
                    silence_logs=50,
                )
            self.client: Client = distributed.Client(self._own or address, timeout=ANSWER_S)
            self.client.wait_for_workers(1, timeout=60)
        except (OSError, TimeoutError, ValueError) as error:
            self.close()
            raise InputError(
                f"the cluster {address} does not answer: "
                f"{str(error).splitlines()[0] if str(error) else error!r}"
            ) from None

    def describe_each(
        self, model: DescriptorModel, sources: Iterable[PhotoSource], *, keep_local: bool
    ) -> Iterator[Described | UnreadableImage]:
        """Photos described, as `DescriptorModel.describe_each` gives them, in the same order and
        batches.

        Raises `InputError` where workers keep dying.
        """
        key, waiting = self._share(model), deque[Any]()
        batches, is_over = in_chunks(sources, model.batch_size), False
        while waiting or not is_over:
            while not is_over and len(waiting) < self._num_ahead():
                batch = next(batches, None)
                is_over = batch is None
                if batch is not None:
                    given = self._given(batch)
                    waiting.append(
                        self.client.submit(
                            describe_batch, key, given, keep_local, pure=False, retries=MOST_TRIES
                        )
                    )
            if waiting:
                for one in self._result(waiting.popleft()):
                    yield one if isinstance(one, Described) else UnreadableImage(*one)
        self._despite_deaths(lambda: self.client.unregister_worker_plugin(key))

    def _num_ahead(self) -> int:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return max(1, len(workers)) * (1 + BATCHES_AHEAD)

    def _share(self, model: DescriptorModel) -> str:
        """Tell every worker of a model; gives by which key."""
        from whence.localize.machines_plugin import Sharing

        spec = ModelSpec(
            model.name, model.options, dict(model.descriptor.state()), secrets.token_hex(8)
        )
        self._despite_deaths(lambda: self.client.register_plugin(Sharing(spec), name=spec.key))
        return spec.key

    def _despite_deaths(self, tell_all: Callable[[], object]) -> None:
        """Tell all workers something, again where one dies just then, for which the scheduler hangs
        up. Raises `InputError`."""
        for tries in range(MOST_TRIES):
            try:
                tell_all()
            except OSError as error:
                if tries == MOST_TRIES - 1:
                    raise InputError(
                        f"workers of the cluster cannot be told of the model: {error!r}; "
                        "what was described is kept"
                    ) from None
                time.sleep(PAUSE_S)
            else:
                return

    def _given(self, batch: list[PhotoSource]) -> list[tuple[str, PhotoSource]]:
        given: list[tuple[str, PhotoSource]] = []
        for source in batch:
            name = str(source) if isinstance(source, str | Path) else "photo"
            absolute: PhotoSource = (
                Path(source).absolute() if isinstance(source, str | Path) else source
            )
            if self.sends_photos and isinstance(absolute, Path):
                # One that cannot be read is told by the worker, which finds no photo in nothing.
                with contextlib.suppress(InputError), open_file(absolute) as file:
                    absolute = file.read()
            given.append((name, absolute))
        return given

    def _result(self, future: Future) -> list[Described | tuple[str, str]]:
        from distributed import KilledWorker

        try:
            found: list[Described | tuple[str, str]] = future.result()
        except KilledWorker as error:
            raise InputError(
                f"workers of the cluster die at these photos: {error}; what was described is kept"
            ) from None
        return found

    def close(self) -> None:
        """Let the cluster go; workers of this machine end."""
        for part in (getattr(self, "client", None), self._own):
            if part is not None:
                part.close()

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def opened_machines(address: str | None, *, sends_photos: bool) -> Iterator[Machines | None]:
    """The cluster of an address, none without one. Raises as `Machines`, and `BadOption` for photos
    to send without a cluster."""
    if address is None:
        if sends_photos:
            raise BadOption("sends_photos goes with --cluster")
        yield None
        return
    with Machines(address, sends_photos=sends_photos) as found:
        yield found
