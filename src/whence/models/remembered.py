"""What was found on the images that a descriptor is fitted on, until they are described: it need
not be found twice."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

import numpy as np

Finding = TypeVar("Finding")


class Remembered(Generic[Finding]):
    """What was found on images, by their pixels. Each is forgotten when it is taken, so memory
    falls as images are described."""

    def __init__(self) -> None:
        self._findings: dict[bytes, Finding] = {}

    def put(self, image: np.ndarray, finding: Finding) -> None:
        """Remember what was found on an image."""
        self._findings[_key_of(image)] = finding

    def take(self, image: np.ndarray) -> Finding | None:
        """The findings on an image, which are forgotten then; None where nothing is known of it."""
        return self._findings.pop(_key_of(image), None) if self._findings else None

    def clear(self) -> None:
        """Forget everything."""
        self._findings.clear()


def _key_of(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
