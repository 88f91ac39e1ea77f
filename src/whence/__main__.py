"""`python -m whence` is the command `whence`: both start here, so that a Ctrl-C finds a way out from the start."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code; 130 where the user stops it, also while it is being imported."""
    code = 130
    try:
        from whence.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped before anything was done; run the same command again\n")
    finally:
        _ignore_further_stops()
    sys.exit(code)


def _ignore_further_stops() -> None:
    """What is left is to leave: a Ctrl-C now would end in a traceback of the interpreter's own."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
