"""A service in processes of its own, for tests that end them: started, asked, killed, started
again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

from whence.server.client import Client


class Served:
    """A running `whence serve`: its address, its process, its log."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as out:
            command = [sys.executable, "-m", "whence", "serve", "--port", "0", *words]
            self.process = subprocess.Popen(command, stderr=out, stdout=out, start_new_session=True)
        self.url = self._address()

    def _address(self) -> str:
        for _ in range(1200):
            found = re.search(
                r"at (http://\S+/)", self.log.read_text(encoding="utf-8", errors="replace")
            )
            if found is not None:
                with contextlib.suppress(OSError), urlopen(f"{found[1]}readyz", timeout=60):
                    return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(
            f"the service did not start: {self.log.read_text(encoding='utf-8', errors='replace')}"
        )

    @property
    def token(self) -> str:
        """The token that the page is given."""
        with urlopen(self.url, timeout=60) as page:
            found = re.search(r'"token":"([^"]+)"', page.read().decode())
        assert found is not None
        return found[1]

    def client(self) -> Client:
        return Client(self.url, token=self.token)

    @property
    def workers(self) -> list[int]:
        """Processes of its workers, without the one that watches over resources."""
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(pid) for pid in file.read_text().split()]
        return [
            pid
            for pid in found
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def served(*words: str, log: Path) -> Iterator[Served]:
    """A running service, ended with everything that it began."""
    one = Served(words, log)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(60)
