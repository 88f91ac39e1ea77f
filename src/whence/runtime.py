"""The machine: threads, seeds, progress bars, and writes that either happen whole or not at all.

The only place where thread counts are set, and the only place that renames files into place.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from whence.errors import InputError, Stopped, UnwritableFile, WhenceError

T = TypeVar("T")
R = TypeVar("R")


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def set_threads(num_threads: int) -> None:
    """Give every numerical library the same number of threads: those imported already by call,
    those to come by environment.

    faiss and torch each keep an OpenMP pool, numpy one for its products; on few cores they fight
    unless all are bounded. Where several Python threads work at once, one thread for each library
    is best.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(num_threads)
    threadpool_limits(num_threads, user_api="blas")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(num_threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(num_threads)


@contextlib.contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Give the numerical libraries that are already imported so many threads inside the block."""
    before = {}
    variables = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    if "torch" in sys.modules:
        before["torch"] = (
            sys.modules["torch"].set_num_threads,
            sys.modules["torch"].get_num_threads(),
        )
    if "faiss" in sys.modules:
        before["faiss"] = (
            sys.modules["faiss"].omp_set_num_threads,
            sys.modules["faiss"].omp_get_max_threads(),
        )
    if "cv2" in sys.modules:
        before["cv2"] = (sys.modules["cv2"].setNumThreads, sys.modules["cv2"].getNumThreads())
    products = threadpool_limits(num_threads, user_api="blas")
    set_threads(num_threads)
    try:
        yield
    finally:
        products.restore_original_limits()
        for put_back, number in before.values():
            put_back(number)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def random_stream(seed: int, *keys: int) -> np.random.Generator:
    """A random generator that depends on nothing but the seed and the keys."""
    return np.random.default_rng([seed, *keys])


def map_threads(
    function: Callable[[T], R], items: Iterable[T], *, num_workers: int | None = None
) -> Iterator[R]:
    """`function` over `items` on threads, results in order, never more than a few items ahead of
    the consumer."""
    workers = num_cores() if num_workers is None else num_workers
    if workers <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 3 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextlib.contextmanager
def told_when_stopped(message: str) -> Iterator[None]:
    """Turn the user's Ctrl-C inside the block into a `Stopped` that says what is kept, unless it
    says so already."""
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt as stop:
        raise Stopped(message) from stop


Watcher = Callable[[str, int, int | None], None]
"""Is told the name of some work, how much of it is done, and of how much."""
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Within it, work of this thread tells `watcher` how far it is and draws no bars; what the
    watcher raises ends the work."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


class _Steps:
    """Counts the steps of one piece of work for a watcher."""

    def __init__(self, watcher: Watcher, label: str, total: int | None) -> None:
        self._watcher, self._label, self._total, self._num_done = watcher, label, total, 0

    def advance(self, num: int) -> None:
        self._num_done += num
        self._watcher(self._label, self._num_done, self._total)


@contextlib.contextmanager
def progress(
    label: str, *, total: int | None, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; gives a function that advances it by n.

    `show` None means: only on a terminal. Who asked by `watching` is told instead.
    """
    watcher = _WATCHER.get()
    if watcher is not None:
        yield _Steps(watcher, label, total).advance
        return
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.update(task, advance=n)


@contextlib.contextmanager
def atomic_write(
    path: str | Path, mode: str = "wb", *, is_flushed: bool = True, is_new: bool = False
) -> Iterator[IO[Any]]:
    """A temporary file beside `path`, open for writing; on success it is flushed to disk and
    renamed over `path`, on failure deleted.

    `is_flushed=False` leaves the flushing to the system: for many files that can be made again
    after a power cut. `is_new=True` never replaces: it raises `FileExistsError` where something
    bears the name already, even if it came there meanwhile.
    """
    target = Path(path)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        os.close(descriptor)
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with open(temporary, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            if is_flushed:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        if is_new:
            _rename_new(temporary, target)
        else:
            os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, WhenceError | FileExistsError):
            raise UnwritableFile(target, error) from error
        raise
    if is_flushed:
        sync_folder(target.parent)


def claim_folder(
    folder: Path,
    record: Mapping[str, Any],
    *,
    name: str,
    beside: Callable[[], Mapping[str, Any]] = dict,
) -> Mapping[str, Any] | None:
    """The record of a folder, the file `name` in it; None where the folder is new or empty and was
    given this record now.

    Whether the record that is found means the same as `record` is the caller's to judge. `beside`
    gives what is written with a new record and is nothing to compare, such as versions. Raises
    `InputError` where the folder holds other things but no such file, or where the file cannot be
    read, and `UnwritableFile`.
    """
    file = folder / name
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"cannot read {str(file)!r}: {error}") from None
        if not isinstance(found, dict):
            raise InputError(
                f"cannot read {str(file)!r}: it holds no record; choose another folder"
            )
        return found
    # A process killed while it wrote the record leaves its unfinished file.
    if folder.exists() and (
        not folder.is_dir()
        or not all(fnmatch(other.name, f".{name}.*.part") for other in folder.iterdir())
    ):
        raise InputError(
            f"{str(folder)!r} is not an empty folder and holds no {name}; choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFile(folder, error) from error
    with atomic_write(file, "w") as text:
        text.write(json.dumps({**record, **beside()}, indent=1))
    return None


def check_place(path: str | Path) -> None:
    """Raise `UnwritableFile` where a file could not be made at `path`, as far as can be told before
    the work is done."""
    target = Path(path)
    if target.is_dir():
        raise UnwritableFile(target, OSError(errno.EISDIR, "it is a folder"))
    if not target.parent.is_dir():
        raise UnwritableFile(target, OSError(errno.ENOENT, "its folder is not there"))
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UnwritableFile(target, OSError(errno.EACCES, "its folder may not be written to"))


def _rename_new(temporary: str, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network drives): take the name first, then rename over it.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(temporary, target)
        except BaseException:
            os.unlink(target)
            raise
    else:
        os.unlink(temporary)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def current_umask() -> int:
    """The process's umask. Reading it means setting it twice; files made in between by other
    threads get the default."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def in_chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive lists of at most `size` items, each read only when it is asked for."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
