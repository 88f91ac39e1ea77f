"""The built wheel and source distribution, each installed in an environment of its own and asked
where a photo was taken.

    python tools/check_release.py dist [--python 3.12] [--resolution lowest-direct] [--wheel]

Exit code 1 where something fails, or where the wheel is as large as `MOST_BYTES`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_BYTES = 30_000_000
"""Of the wheel without extras."""
WORLD = ("world", "city", "city", "--preset", "tiny", "--workers", "1", "-q")
INDEX = ("index", "city/database", "--db", "a.whence", "-q")
CHECK = ("database", "check", "--db", "a.whence")


def run(*words: str | Path, folder: Path) -> str:
    """What a command prints; ends the program where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 3):
        sys.exit(
            f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main() -> None:
    """Install and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the built files")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter, or a version that uv finds"
    )
    parser.add_argument(
        "--resolution",
        default="highest",
        help="as uv takes it: highest, or lowest-direct for the declared minimums",
    )
    parser.add_argument("--wheel", action="store_true", help="the wheel alone")
    given = parser.parse_args()
    uv = Path(sys.executable).with_name("uv")
    (wheel,), (source,) = given.folder.glob("*.whl"), given.folder.glob("*.tar.gz")
    print(
        f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; {source.name}: "
        f"{source.stat().st_size / 1e6:.1f} MB"
    )
    if wheel.stat().st_size >= MOST_BYTES:
        sys.exit(f"the wheel is as large as {MOST_BYTES / 1e6:.0f} MB")
    for built in (wheel,) if given.wheel else (wheel, source):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside)
            run(uv, "venv", "--quiet", "--python", given.python, folder / "venv", folder=folder)
            python = folder / "venv" / "bin" / "python"
            install = (
                "pip",
                "install",
                "--quiet",
                "--python",
                python,
                "--resolution",
                given.resolution,
            )
            run(uv, *install, built.resolve(), folder=folder)
            whence = folder / "venv" / "bin" / "whence"
            version = run(whence, "--version", folder=folder).strip()
            for words in (WORLD, INDEX, CHECK):
                run(whence, *words, folder=folder)
            query = min((folder / "city" / "queries").rglob("*.jpg"))
            answer = json.loads(
                run(whence, "locate", query, "--db", "a.whence", "--json", folder=folder)
            )
            about = run(
                python, "-c", "import sys; print(sys.version.split()[0])", folder=folder
            ).strip()
        print(
            f"{built.name} on Python {about}: {version}, answers {answer['status']}; "
            f"{time.perf_counter() - started:.0f} s"
        )


if __name__ == "__main__":
    main()
