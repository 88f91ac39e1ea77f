"""`python -m whence` is the command `whence`: both start here, so that a Ctrl-C finds a way out
from the start."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings

from whence.errors import EXIT_STOPPED


def main() -> None:
    """Run the command line and leave with its exit code; 130 where the user stops it, also while it
    is being imported."""
    code = EXIT_STOPPED
    try:
        from whence.cli import run
        from whence.cli.output import show_warning

        warnings.showwarning = show_warning
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped before anything was done; run the same command again\n")
    # What is left is to leave: a Ctrl-C now would end in a traceback of the interpreter's own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == EXIT_STOPPED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        # At once: not after what threads still work at, and with this code also where an interrupt
        # met a library's own start.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
