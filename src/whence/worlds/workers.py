"""Rendering in several processes: each is this module run as a program, given the world's folder
and its share.

Fresh interpreters rather than forks: they inherit no locks of threads, and the caller's script is
not imported again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from whence.errors import WhenceError

_STEP = 4


def run_workers(out: Path, *, num_workers: int, advance: Callable[[int], None]) -> None:
    """Render a claimed world with that many processes. Raises `WhenceError` with what a failed one
    said."""
    source = str(Path(__file__).parents[2])
    paths = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": paths}
    lock = threading.Lock()

    def follow(stream) -> None:  # type: ignore[no-untyped-def]
        for line in stream:
            with lock:
                advance(int(line))

    with tempfile.TemporaryFile() as complaints:
        workers = []
        for shard in range(num_workers):
            command = [
                sys.executable,
                "-m",
                "whence.worlds.workers",
                str(out),
                str(shard),
                str(num_workers),
            ]
            workers.append(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=complaints, env=environment
                )
            )
        threads = [threading.Thread(target=follow, args=(worker.stdout,)) for worker in workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            codes = [worker.wait() for worker in workers]
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.terminate()
                    worker.wait()
                if worker.stdout:
                    worker.stdout.close()
        if any(codes):
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()
            raise WhenceError(
                f"rendering {str(out)!r} stopped: {said[-1] if said else codes}; run the same "
                "command again to go on"
            )


def main() -> None:
    """Render one share of the world in a folder; prints the number of photos done since the last
    line."""
    from whence.runtime import set_threads
    from whence.worlds.earth.plan import EarthSpec
    from whence.worlds.earth.shards import render_share
    from whence.worlds.presets import WorldSpec
    from whence.worlds.shards import render_shard

    set_threads(1)
    out, shard, num_shards = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    text = (out / "world.json").read_text(encoding="utf-8")
    record = json.loads(text)
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if done >= _STEP:
            print(done, flush=True)
            done = 0

    if record.get("kind") == "earth":
        render_share(
            out, EarthSpec.from_record(record), shard=shard, num_shards=num_shards, advance=advance
        )
    else:
        render_shard(
            out, WorldSpec.from_json(text), shard=shard, num_shards=num_shards, advance=advance
        )
    print(done, flush=True)


if __name__ == "__main__":
    main()
