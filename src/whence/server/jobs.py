"""Jobs: what takes longer than a request may. Each is a file in the service's folder, so that none
is lost with a process.

One worker at a time does them, one after the other: who holds the lock of the folder, which the
system gives back when its holder is killed. A job that was running then goes on where its results
end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from whence.errors import BadOption, InputError, NoPhotos, WhenceError
from whence.records import as_values, fill, finite_values
from whence.runtime import atomic_write
from whence.server.terms import Limits

log = logging.getLogger("whence.server")
State = Literal["queued", "running", "done", "failed", "cancelled"]
_ID = re.compile(r"[0-9a-f]{24}")
MOST_TRIES = 3
"""How often a job is begun that ends its process each time."""
_POLL_S = 0.5
_LOOK_S = 10.0
"""Seconds after which a folder that did not change is looked through all the same."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, and how far it is."""

    id: str
    kind: str
    """"add", "folder", "video" or "tag"."""
    database: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it works on, by names and ids."""
    state: State = "queued"
    num_done: int = 0
    num_total: int | None = None
    tries: int = 0
    error: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What came of it, in a few values; the results are lines of their own."""
    created: float = 0.0
    """Seconds since 1970."""
    changed: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Stopped(Exception):
    """The service ends: what is done is kept, and the job goes on at its next start."""


class JobFolder:
    """The jobs of a service on disk. Any process may read and add; who runs them holds the lock."""

    def __init__(self, state: str | Path, limits: Limits | None = None) -> None:
        self.state = Path(state)
        self.folder = self.state / "jobs"
        self.limits = limits or Limits()
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        kind: str,
        *,
        database: str = "",
        options: Mapping[str, Any] | None = None,
        id: str = "",
    ) -> Job:
        """A new job, kept before it is answered. Raises `BadOption` where too many are open."""
        jobs = self.all()
        if sum(job.is_open for job in jobs) >= self.limits.max_jobs:
            raise BadOption(
                f"{self.limits.max_jobs} jobs wait or run already; come again when some are done"
            )
        done = [job for job in jobs if not job.is_open]
        for job in done[: max(len(jobs) + 1 - self.limits.max_kept_jobs, 0)]:
            self._forget(job.id)
        now = time.time()
        return self.keep(
            Job(id or new_id(), kind, database, dict(options or {}), created=now, changed=now)
        )

    def get(self, id: str) -> Job:
        """The job of an id. Raises `NoPhotos` where there is none."""
        if _ID.fullmatch(id):
            with contextlib.suppress(OSError, ValueError, WhenceError):
                return fill(Job, json.loads(self._file(id).read_text(encoding="utf-8")))
        raise NoPhotos("there is no job of this id")

    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        found = []
        for file in self.folder.glob("*.json"):
            with contextlib.suppress(NoPhotos):
                found.append(self.get(file.stem))
        return sorted(found, key=lambda job: (job.created, job.id))

    def keep(self, job: Job) -> Job:
        """The job as it is now, kept."""
        job = replace(job, changed=time.time())
        with atomic_write(self._file(job.id), "w", is_flushed=job.state != "running") as file:
            json.dump(finite_values(as_values(job)), file, ensure_ascii=False)
        return job

    def results(self, id: str) -> list[dict[str, Any]]:
        """The results so far, one record each; a line that a killed process left half is none."""
        try:
            lines = self._results_file(id).read_bytes().split(b"\n")[:-1]
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def keep_results(self, id: str, records: list[dict[str, Any]]) -> None:
        """Put all results of a job in the place of those before."""
        with atomic_write(self._results_file(id)) as file:
            file.writelines(_line(record) for record in records)

    def append_result(self, id: str, record: Mapping[str, Any]) -> None:
        """Add one result after the others."""
        file = self._results_file(id)
        with open(file, "ab") as lines:
            lines.write(_line(record))

    def cancel(self, id: str) -> Job:
        """The job, ended where it waits; one that runs ends at its next photo."""
        job = self.get(id)
        return self.keep(replace(job, state="cancelled")) if job.is_open else job

    def _forget(self, id: str) -> None:
        for file in (self._file(id), self._results_file(id)):
            file.unlink(missing_ok=True)

    def _file(self, id: str) -> Path:
        return self.folder / f"{id}.json"

    def _results_file(self, id: str) -> Path:
        return self.folder / f"{id}.jsonl"


Work = Callable[["Progress"], Mapping[str, Any]]
"""Does a job, and gives its summary."""


class Progress:
    """What a job in work says about itself, and is told."""

    def __init__(self, folder: JobFolder, job: Job, is_ending: threading.Event) -> None:
        self.folder, self.job, self._is_ending = folder, job, is_ending
        self._saved = 0.0

    def note(self, num_done: int, num_total: int | None = None) -> None:
        """Say how far it is. Raises `Stopped` where the service ends, or somebody ended the job."""
        self.job = replace(
            self.job,
            num_done=num_done,
            num_total=self.job.num_total if num_total is None else num_total,
        )
        if self._is_ending.is_set():
            raise Stopped
        now = time.monotonic()
        if now - self._saved < _POLL_S / 2 and num_done != self.job.num_total:
            return
        if self.folder.get(self.job.id).state == "cancelled":
            self.job = replace(self.job, state="cancelled")
            raise Stopped
        self._saved = now
        self.folder.keep(self.job)

    def wait(self) -> None:
        """Pause a moment, unless the service ends."""
        self._is_ending.wait(_POLL_S)


class Runner:
    """The thread of a worker that does jobs while it holds the folder's lock; the others wait for
    it."""

    def __init__(
        self, folder: JobFolder, work_of: Callable[[Job], Work], hide: Callable[[str], str] = str
    ) -> None:
        self.folder, self._work_of, self._hide = folder, work_of, hide
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._live, name="whence-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self, timeout_s: float = 30.0) -> None:
        """Let the job that runs come to its next photo, and end."""
        self._is_ending.set()
        self._thread.join(timeout_s)

    def _live(self) -> None:
        while not self._is_ending.is_set():
            try:
                with self._lock() as is_ours:
                    if is_ours:
                        self._do_all()
            except Exception:
                # A full disk, a folder that was taken away: jobs go on once that is mended.
                log.exception("jobs cannot be looked after now")
                self._is_ending.wait(_LOOK_S)
            self._is_ending.wait(_POLL_S)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        handle = os.open(self.folder.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)

    def _do_all(self) -> None:
        """Do jobs until the service ends: the lock is ours as long as this process lives."""
        for job in self.folder.all():
            if job.state == "running":
                # Its process ended without it. We hold the lock, so nobody else works on it.
                self.folder.keep(replace(job, state="queued"))
        seen, looked = 0, 0.0
        while not self._is_ending.is_set():
            changed, now = os.stat(self.folder.folder).st_mtime_ns, time.monotonic()
            if changed == seen and now - looked < _LOOK_S:
                self._is_ending.wait(_POLL_S)
                continue
            seen, looked = changed, now
            following = next((job for job in self.folder.all() if job.state == "queued"), None)
            if following is None:
                self._is_ending.wait(_POLL_S)
            elif following.tries >= MOST_TRIES:
                self.folder.keep(
                    replace(
                        following, state="failed", error=f"it ended its process {MOST_TRIES} times"
                    )
                )
            else:
                self._do(following)

    def _do(self, job: Job) -> None:
        progress = Progress(
            self.folder,
            self.folder.keep(replace(job, state="running", tries=job.tries + 1)),
            self._is_ending,
        )
        try:
            summary = self._work_of(job)(progress)
            done = (
                progress.job.num_total
                if progress.job.num_total is not None
                else progress.job.num_done
            )
            self.folder.keep(
                replace(
                    progress.job, state="done", summary=dict(summary), num_done=done, num_total=done
                )
            )
        except Stopped:
            is_cancelled = progress.job.state == "cancelled"
            self.folder.keep(
                replace(
                    progress.job, state="cancelled" if is_cancelled else "queued", tries=job.tries
                )
            )
        except InputError as error:
            self.folder.keep(replace(progress.job, state="failed", error=self._hide(str(error))))
        except Exception as error:
            log.exception("job %s of kind %s failed", job.id, job.kind)
            self.folder.keep(
                replace(
                    progress.job,
                    state="failed",
                    error=f"{type(error).__name__}; the service's log says more",
                )
            )


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(12)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(finite_values(record), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
