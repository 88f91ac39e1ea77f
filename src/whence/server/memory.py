"""Memory of a worker that runs for weeks: what a request needed goes back to the system when nobody
waits.

glibc keeps freed memory in a pool for each thread; other C libraries have no such calls, and keep
less.
"""

from __future__ import annotations

import contextlib
import ctypes

_ARENA_MAX = -8
"""M_ARENA_MAX of glibc's malloc.h."""
_NUM_ARENAS = 2


def share_arenas() -> None:
    """Let all threads take memory from two pools, so that not each of them keeps what it once
    needed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _NUM_ARENAS)


def give_back() -> None:
    """Give freed memory back to the system; some milliseconds."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
