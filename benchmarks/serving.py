"""What the service bears, on this machine alone: load, memory, cost against `whence locate`, odd
uploads, open connections.

    python benchmarks/serving.py [--quick] [--folder FOLDER] [--only load,cost,odd,slow]

Photos are crops of a small rendered city, 320x240, in one database; two workers. `load` asks with
1, 8 and 32 clients (retrieval alone), then looks at memory after 2,000 requests of which 200 are
verified; `cost` compares the CPU seconds of all server processes for each request with one warm
`Localizer.locate_many` over the same photos with the same options; `odd` sends broken and mutated
files and counts answers of 500 and above; `slow` holds connections open that never come to an end,
and times the others.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import random
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import numpy as np
import side_by_side
from PIL import Image

from whence.data.names import format_name
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.runtime import set_threads
from whence.server.client import _multipart
from whence.settings import BuildOptions
from whence.types import GeoPoint
from whence.worlds.city import render_world

WORKERS = 2
RETRIEVAL = {"verify": "false", "k": "20"}
VERIFIED = {"verify": "true", "k": "20"}


def main() -> None:
    """Make the photos, serve them, and run what was asked for."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument(
        "--folder", help="where the photos and their database are kept; a second run makes nothing"
    )
    parser.add_argument("--requests", type=int, help="requests of `load`, a tenth of them verified")
    parser.add_argument("--only", default="load,cost,odd,slow", help="parts to run")
    arguments = parser.parse_args()
    num_photos, num_requests, num_odd, num_open = (
        (200, 100, 200, 100) if arguments.quick else (6000, 2000, 10_000, 1000)
    )
    num_requests = arguments.requests or num_requests
    parts = arguments.only.split(",")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    with tempfile.TemporaryDirectory() as made:
        root = Path(arguments.folder or made)
        photos = make_photos(root, num_photos)
        set_threads(1)
        if {"load", "cost"} & set(parts):
            Localizer.build(root / "photos", path=root / "city.whence").close()
            with serving(root, "city.whence") as server:
                if "load" in parts:
                    load(server, photos, num_requests)
                if "cost" in parts:
                    cost(server, photos, root / "city.whence")
        if {"odd", "slow"} & set(parts):
            # What is decoded and refused is the same for every model: the quickest does.
            few = sorted((root / "photos").iterdir())[:60]
            Localizer.build(
                *few, path=root / "light.whence", options=BuildOptions(model="whence-lite0-448")
            ).close()
            with serving(root, "light.whence") as server:
                if "odd" in parts:
                    odd(server, photos, num_odd)
                if "slow" in parts:
                    slow(server, photos, num_open)


@contextlib.contextmanager
def serving(root: Path, database: str) -> Iterator[Server]:
    """A service over a database, ended after use."""
    server = Server(root, database)
    try:
        yield server
    finally:
        server.end()


def make_photos(root: Path, num: int) -> list[bytes]:
    """The database's photos as files, and 200 others that ask: crops of rendered photos, each
    another one."""
    render_world(root / "city", preset="tiny", num_workers=1)
    sources = [
        Image.open(file).convert("RGB")
        for file in sorted((root / "city" / "database").rglob("*.jpg"))
    ]
    random_of = np.random.default_rng(0)

    def crop(number: int) -> bytes:
        picture = sources[number % len(sources)]
        width, height = picture.size
        share = random_of.uniform(0.6, 1.0)
        left, top = random_of.uniform(0, 1 - share, size=2) * (width, height)
        cut = picture.crop(
            (int(left), int(top), int(left + share * width), int(top + share * height))
        ).resize((320, 240))
        out = io.BytesIO()
        cut.save(out, "JPEG", quality=int(random_of.integers(80, 95)))
        return out.getvalue()

    (root / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(num):
        lat, lon = 47.7 + (number % 77) * 1e-4, 13.9 + (number // 77) * 1e-4
        name = format_name(
            point=GeoPoint(lat, lon), pano_id=f"{number:05d}", heading_deg=float(number % 360)
        )
        data, file = crop(number), root / "photos" / name
        if not file.exists():
            file.write_bytes(data)
    return [crop(number) for number in range(200)]


class Server:
    """A running service with two workers."""

    def __init__(self, root: Path, database: str) -> None:
        self.log = root / "serve.log"
        with open(self.log, "wb") as out:
            words = [
                "serve",
                "--db",
                str(root / database),
                "--port",
                "0",
                "--workers",
                str(WORKERS),
                "--queue",
                "64",
            ]
            command = [sys.executable, "-m", "whence", *words]
            environ = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=environ, start_new_session=True
            )
        while (found := re.search(r"at (http://\S+/)", self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        self.url = found[1]
        with urlopen(f"{self.url}readyz", timeout=120):
            pass
        self.port = urlsplit(self.url).port or 0

    def pids(self) -> list[int]:
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """Of all server processes so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[int, int]:
        """Megabytes of all server processes: their own (anonymous), and pages of the database's
        files.

        Each page that several share is counted once (PSS).
        """
        totals = {"Pss_Anon": 0, "Pss_File": 0}
        for pid in self.pids():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            for name in totals:
                found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
                totals[name] += int(found[1]) if found else 0
        return totals["Pss_Anon"] // 1000, totals["Pss_File"] // 1000

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Caller:
    """One client with one connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, photo: bytes, options: dict[str, str]) -> int:
        """The status of one question; a connection that was closed is opened anew."""
        return self.send("/v1/locate", [("photos", photo)], options)

    def match(self, photo0: bytes, photo1: bytes) -> int:
        """The status of one comparison."""
        return self.send("/v1/match", [("photo0", photo0), ("photo1", photo1)], {})

    def send(self, path: str, photos: list[tuple[str, bytes]], options: dict[str, str]) -> int:
        body, kind = _multipart(photos, [])
        try:
            self.connection.request(
                "POST", f"{path}?{urlencode(options)}", body, {"Content-Type": kind}
            )
            answer = self.connection.getresponse()
            answer.read()
            return answer.status
        except (http.client.HTTPException, OSError):
            self.connection.close()
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            return 0


def hammer(
    server: Server, num_clients: int, jobs: Sequence[Callable[[Caller], int]]
) -> tuple[np.ndarray, Counter[int], float]:
    """Seconds of each job, statuses, and seconds of all, with so many clients at once."""
    todo, spent, statuses, lock = (
        list(enumerate(jobs)),
        np.zeros(len(jobs)),
        Counter[int](),
        threading.Lock(),
    )

    def work() -> None:
        caller = Caller(server.port)
        while True:
            with lock:
                if not todo:
                    return
                number, job = todo.pop()
            started = time.perf_counter()
            status = job(caller)
            with lock:
                spent[number], statuses[status] = (
                    time.perf_counter() - started,
                    statuses[status] + 1,
                )

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent, statuses, time.perf_counter() - started


def asking(photos: list[bytes], number: int, options: dict[str, str]) -> Callable[[Caller], int]:
    return lambda caller: caller.ask(photos[number % len(photos)], options)


def load(server: Server, photos: list[bytes], num_requests: int) -> None:
    """Requests a second at 1, 8 and 32 clients; memory after all of them and the verified ones."""
    at_start = server.memory()
    warm = [asking(photos, number, VERIFIED if number % 2 else RETRIEVAL) for number in range(40)]
    hammer(server, 8, warm)
    after_warm = server.memory()
    each = (num_requests - num_requests // 10) // 3
    print(
        f"{'clients':>8}{'requests':>10}{'a second':>10}{'p50':>9}{'p95':>9}{'p99':>9}  retrieval "
        f"alone, {WORKERS} workers"
    )
    for num_clients in (1, 8, 32):
        spent, statuses, whole = hammer(
            server, num_clients, [asking(photos, number, RETRIEVAL) for number in range(each)]
        )
        p50, p95, p99 = 1000 * np.percentile(spent, (50, 95, 99))
        print(
            f"{num_clients:>8}{each:>10}{each / whole:>10.1f}{p50:>6.0f} ms{p95:>6.0f} "
            f"ms{p99:>6.0f} ms  {dict(statuses)}"
        )
    num_verified = num_requests // 10
    spent, statuses, whole = hammer(
        server, 8, [asking(photos, number, VERIFIED) for number in range(num_verified)]
    )
    p95 = np.percentile(spent, 95)
    print(
        f"verified, 8 clients: {num_verified} requests, {num_verified / whole:.1f} a second, p95 "
        f"{p95:.2f} s, {dict(statuses)}"
    )
    after = server.memory()
    print("memory of all processes, their own + pages of the database's files, in MB:")
    for when, (own, mapped) in (
        ("ready", at_start),
        ("after 40 requests", after_warm),
        (f"after {3 * each + num_verified} more", after),
    ):
        print(
            f"  {when:<22}{own:>6} + {mapped}, own {100 * own / at_start[0] - 100:+.1f} % of the "
            "start"
        )


def cost(server: Server, photos: list[bytes], database: Path) -> None:
    """CPU seconds a request, of all server processes, against one warm localizer over the same
    photos with the same options."""
    with tempfile.TemporaryDirectory() as folder, Localizer.open(database) as localizer:
        files = []
        for number, data in enumerate(photos):
            files.append(Path(folder) / f"{number:03d}.jpg")
            files[-1].write_bytes(data)
        ways = (
            ("retrieval alone", RETRIEVAL, RETRIEVE_ONLY, 60, 6),
            ("verified", VERIFIED, None, 15, 4),
        )
        for name, options, way, num, num_rounds in ways:
            hammer(server, 2, [asking(photos, number, options) for number in range(20)])
            list(localizer.locate_many(files[:10], k=20, options=way, show_progress=False))
            ratios, ours, theirs = [], [], []
            for _ in range(num_rounds):
                before = server.cpu_seconds()
                # One client: two workers at once would slow each other in the caches of few cores,
                # which is no cost of the service.
                hammer(server, 1, [asking(photos, number, options) for number in range(num)])
                ours.append((server.cpu_seconds() - before) / num)
                started = time.process_time()
                list(localizer.locate_many(files[:num], k=20, options=way, show_progress=False))
                theirs.append((time.process_time() - started) / num)
                ratios.append(ours[-1] / theirs[-1])
            mine, other, more = (
                1000 * np.median(ours),
                1000 * np.median(theirs),
                100 * np.median(ratios) - 100,
            )
            rounds = ", ".join(f"{100 * one - 100:+.1f}" for one in ratios)
            print(
                f"{name}: {mine:.1f} ms of CPU a request, {other:.1f} ms by locate_many; "
                f"{more:+.1f} % (rounds {rounds})"
            )


def mutated(source: bytes, chance: random.Random) -> bytes:
    """A photo cut, flipped, doubled, declared otherwise, or no photo at all."""
    data = bytearray(source)
    kind = chance.randrange(8)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data))])
    if kind == 1:
        return chance.randbytes(chance.randrange(4000))
    if kind == 2:
        return bytes(data[:2]) + chance.randbytes(chance.randrange(2000))
    if kind == 3:
        place = chance.randrange(len(data))
        return bytes(data[:place]) + chance.randbytes(chance.randrange(600)) + bytes(data[place:])
    if kind == 4:
        # Another size in the header, up to a bomb.
        for place in (
            place
            for place in range(len(data) - 9)
            if data[place] == 0xFF and data[place + 1] in (0xC0, 0xC2)
        ):
            data[place + 5 : place + 9] = chance.randbytes(4)
            break
    for _ in range(chance.randrange(1, 60)):
        data[chance.randrange(min(len(data), 700) if kind == 5 else len(data))] = chance.randrange(
            256
        )
    return bytes(data)


def odd(server: Server, photos: list[bytes], num: int) -> None:
    """Odd uploads to both questions: how each was answered."""
    chance, formats = random.Random(0), ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
    sources = []
    for number, data in enumerate(photos[:30]):
        out = io.BytesIO()
        Image.open(io.BytesIO(data)).resize((160, 120)).save(out, formats[number % len(formats)])
        sources.append(out.getvalue())
    uploads = [mutated(chance.choice(sources), chance) for _ in range(num)]
    jobs = [
        (lambda caller, data=data: caller.match(data, photos[0]))
        if number % 10 == 0
        else (lambda caller, data=data: caller.ask(data, RETRIEVAL))
        for number, data in enumerate(uploads)
    ]
    _, statuses, whole = hammer(server, 4, jobs)
    wrong = sum(num for status, num in statuses.items() if status >= 500 or status == 0)
    print(
        f"{num} odd uploads in {whole:.0f} s: {dict(statuses)}; {wrong} of 500 and above, or "
        "without an answer"
    )
    print(f"  tracebacks in the log: {server.log.read_text(errors='replace').count('Traceback')}")


def slow(server: Server, photos: list[bytes], num: int) -> None:
    """Connections that never come to an end, and how long the others wait meanwhile."""
    head = (
        f"POST /v1/locate HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: "
        "100000\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    held = []
    for number in range(num):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall((b"", head.encode()[:20], head.encode())[number % 3])
        held.append(connection)
    spent, statuses, _ = hammer(
        server, 4, [asking(photos, number, RETRIEVAL) for number in range(100)]
    )
    slowest, median = spent.max(), np.median(spent)
    print(
        f"{num} connections held open: 100 others answered {dict(statuses)}, slowest "
        f"{slowest:.2f} s, median {median:.2f} s"
    )
    for connection in held:
        connection.close()


if __name__ == "__main__":
    main()
