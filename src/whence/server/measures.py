"""What a service counts, for Prometheus: requests, how long they took, who waits. Workers count
together."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers count together; set before they start."""
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measures:
    """The counters of one worker; `text` gives those of all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        about = {"registry": self.registry, "namespace": "whence"}
        self.requests = Counter(
            "requests",
            "Requests answered.",
            ["method", "route", "status"],
            **about,  # type: ignore[arg-type]
        )
        self.seconds = Histogram(
            "request_seconds",
            "Seconds of a request.",
            ["route"],
            buckets=_SECONDS,
            **about,  # type: ignore[arg-type]
        )
        self.waiting = Gauge(
            "waiting",
            "Requests that wait or compute.",
            multiprocess_mode="livesum",
            **about,  # type: ignore[arg-type]
        )
        self.photos = Counter("photos", "Photos asked about.", ["status"], **about)  # type: ignore[arg-type]

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; methods that nobody knows are one."""
        known = (
            method
            if method in ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS")
            else "other"
        )
        self.requests.labels(known, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
