"""Load on a service by locust: everybody asks about photos of a folder, nine of ten without
verification.

whence serve --db city.whence --port 8600 --workers 2 --queue 64
WHENCE_ASKED=PHOTOS uvx locust -f benchmarks/locustfile.py --headless --host http://127.0.0.1:8600
-u 8 -r 8 -t 60s --only-summary
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from locust import HttpUser, task

PHOTOS = [
    file.read_bytes() for file in sorted(Path(os.environ["WHENCE_ASKED"]).rglob("*.jpg"))[:200]
]


class Asker(HttpUser):
    """One person who asks again as soon as the answer is there."""

    @task(9)
    def retrieve(self) -> None:
        """By descriptors alone."""
        self.ask("false")

    @task(1)
    def verify(self) -> None:
        """With geometry."""
        self.ask("true")

    def ask(self, verify: str) -> None:
        """One photo."""
        files = {"photos": ("asked.jpg", random.choice(PHOTOS), "image/jpeg")}
        self.client.post(
            f"/v1/locate?verify={verify}&k=20", files=files, name=f"locate, verify={verify}"
        )
