"""The service as it is started: it ends with its work done, loses nothing when killed, and its page
works in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
from conftest import ORIGIN, draw_place, view_of, write_photo, write_street
from service_samples import Served, served
from whence.cli import run
from whence.server.client import Client, ServiceError

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
BROWSER_FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    write_street(root / "photos", num_places=6, shift=0, run=0)
    write_street(root / "asked", num_places=2, shift=20, run=1)
    assert run(["index", str(root / "photos"), "--db", str(root / "city.whence"), "-q"]) == 0
    return root


@pytest.fixture
def city(street: Path, tmp_path: Path) -> Path:
    """A database of the test's own, beside the photos it was made from."""
    shutil.copytree(street / "city.whence", tmp_path / "city.whence")
    shutil.copytree(street / "photos", tmp_path / "photos")
    return tmp_path / "city.whence"


def new_photos(folder: Path, num: int) -> list[Path]:
    return [
        write_photo(folder / f"new{i}.jpg", view_of(draw_place(60 + i), shift=0, seed=i))
        for i in range(num)
    ]


def test_the_client_asks_and_the_end_is_clean(city: Path, street: Path, tmp_path: Path) -> None:
    photo = next((street / "asked").rglob("*.jpg"))
    with served("--db", str(city), log=tmp_path / "log") as one:
        client = one.client()
        assert [found.status for found in client.locate(photo, photo.read_bytes())] == [
            "located",
            "located",
        ]
        assert client.databases()[0]["num_photos"] == 6
        assert client.match(photo, photo)["is_match"]
        assert len(client.photos(near=ORIGIN, num=2)) == 2
        assert client.thumbnail(client.photos()[0]["id"], side=64).startswith(b"\xff\xd8")
        with pytest.raises(ServiceError) as refused:
            Client(one.url).add(photo)
        assert refused.value.status == 401
        with pytest.raises(ServiceError, match="did not answer"):
            Client("http://127.0.0.1:1").databases()
        # A request that is at work when the end is asked for gets its answer.
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(client.locate(photo)))
        asking.start()
        time.sleep(0.1)
        assert one.end(signal.SIGTERM) == 0
        asking.join(30)
        assert answers[0][0].status == "located"
    log = (tmp_path / "log").read_text()
    assert "POST /v1/locate 200" in log
    assert one.url not in log.partition("\n")[2]


def test_nothing_is_lost_when_the_service_is_killed(city: Path, tmp_path: Path) -> None:
    photos = new_photos(tmp_path, 6)
    with served("--db", str(city), "--workers", "2", log=tmp_path / "log") as one:
        client = one.client()
        begun = [client.add(photo, point=ORIGIN) for photo in photos[:3]]
        one.end(signal.SIGKILL)
        for _ in range(300):
            # Its workers end with it, by themselves.
            if not _is_any_alive(one.process.pid):
                break
            time.sleep(0.05)
    with served("--db", str(city), "--workers", "2", log=tmp_path / "log2") as one:
        client = one.client()
        begun.append(client.add(photos[3], point=ORIGIN))
        victim = one.workers[0]
        os.kill(victim, signal.SIGKILL)
        begun += [_patiently(client, photo) for photo in photos[4:]]
        for kept in begun:
            assert client.wait(kept["job"], timeout_s=60)["state"] == "done"
        assert client.databases()[0]["num_photos"] == 12
        for kept in begun:
            assert client.thumbnail(kept["photos"][0])
        # One killed while it owes its parent an answer is missed a minute later.
        for _ in range(1500):
            if len(one.workers) == 2 and victim not in one.workers:
                break
            time.sleep(0.05)
        assert len(one.workers) == 2
        assert victim not in one.workers
    assert run(["database", "check", "--db", str(city)]) == 0


def _is_any_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _patiently(client: Client, photo: Path) -> dict[str, Any]:
    """Add a photo; a connection that went down with its worker is begun again, as any client
    would."""
    for _ in range(20):
        try:
            return client.add(photo, point=ORIGIN)
        except ServiceError as error:
            if error.status:
                raise
            time.sleep(0.1)
    raise AssertionError("the service does not answer")


def test_slow_clients_and_open_connections_keep_nobody_out(
    city: Path, street: Path, tmp_path: Path
) -> None:
    photo = next((street / "asked").rglob("*.jpg"))
    with served("--db", str(city), log=tmp_path / "log") as one:
        client, port = one.client(), urlsplit(one.url).port
        assert port is not None
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        head = (
            f"POST /v1/locate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: "
            "1000\r\nContent-Type: image/jpeg\r\n\r\n"
        )
        for number, connection in enumerate(held):
            connection.sendall(head.encode()[: 30 if number % 2 else None])
        assert client.locate(photo)[0].status == "located"
        assert client.databases()
        for connection in held:
            connection.close()


def test_odd_bytes_on_the_line(city: Path, tmp_path: Path) -> None:
    with served("--db", str(city), log=tmp_path / "log") as one:
        port = urlsplit(one.url).port
        assert port is not None
        for data in (
            b"\0" * 100,
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"POST /v1/locate HTTP/9.9\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(data)
                answer = connection.recv(4000)
                assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        assert one.client().databases()
    assert "Traceback" not in (tmp_path / "log").read_text()


# ---- the page in a browser -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(
            "no Chromium is installed: the page is not opened in a browser (apt-get install "
            "chromium)"
        )
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="playwright is not installed: the page is not opened in a browser",
    )
    with api.sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def house(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """A service with a folder of two photos without a geotag, of which nothing is known
    otherwise."""
    root = tmp_path_factory.mktemp("house")
    for number in (1, 2):
        write_photo(
            root / "walk" / f"plain{number}.jpg", view_of(draw_place(number), shift=15, seed=9)
        )
    words = (
        "--db",
        str(street / "city.whence"),
        "--state",
        str(root / "state"),
        "--folder",
        f"walk={root / 'walk'}",
    )
    with served(*words, log=root / "log") as one:
        yield one, root / "walk"


class Visit:
    """A page that was opened, with what it asked and what it complained about."""

    def __init__(
        self, browser: Any, url: str, *, width: int, height: int, bypass_csp: bool = False
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, bypass_csp=bypass_csp
        )
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_whole_way_in_a_browser(
    browser: Any, house: tuple[Served, Path], street: Path, tmp_path: Path, width: int, height: int
) -> None:
    one, walk = house
    visit = Visit(browser, one.url, width=width, height=height)
    page = visit.page
    photo = next((street / "asked").rglob("*.jpg"))
    pairs = (("a.jpg", photo.read_bytes()), ("<img src=x>.jpg", b"junk"))
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in pairs]
    )
    page.get_by_text("1 of 2 photos have an answer").wait_for(timeout=60_000)
    assert page.locator("#answers article").count() == 2
    assert page.locator("#answers img[src=x]").count() == 0
    located = page.locator("#answers article", has_text="Located")
    assert "," in located.locator(".coordinates").inner_text()
    assert "cannot be read" in page.locator("#answers article", has_text="Unknown").inner_text()
    with page.expect_download() as download:
        page.click("#geojson")
    features = json.loads(Path(download.value.path()).read_text())["features"]
    assert [one["properties"]["status"] for one in features] == ["located"]
    with page.expect_download() as download:
        page.click("#gpx")
    assert Path(download.value.path()).read_text().count("<wpt") == 1
    located.locator(".thumbbutton").first.click()
    page.locator("#compared img").nth(1).wait_for(timeout=60_000)
    assert "points fit one geometry" in page.inner_text("#comparewords")
    page.screenshot(path=str(tmp_path / "compare.png"))
    page.keyboard.press("Escape")
    page.locator("#map canvas").click(position={"x": 60, "y": 60})
    page.locator("#near figure").first.wait_for(timeout=60_000)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (
        "nothing runs out of the page's width"
    )

    page.click("#tab-review")
    page.click("#find")
    page.locator("#proposals li").nth(1).wait_for(timeout=60_000)
    pin = page.locator(".marker.on").bounding_box()
    assert pin is not None
    page.mouse.move(pin["x"] + 11, pin["y"] + 11)
    page.mouse.down()
    page.mouse.move(pin["x"] + 51, pin["y"] + 31, steps=5)
    page.mouse.up()
    page.locator("#proposals li", has_text="(moved)").wait_for(timeout=60_000)
    page.keyboard.press("x")
    page.keyboard.press("a")
    assert page.locator("#write").inner_text() == "Write 1 accepted"
    page.click("#acceptall")
    page.click("#write")
    page.get_by_text("2 sidecars written").wait_for(timeout=60_000)
    assert sorted(file.name for file in walk.glob("*.xmp")) == ["plain1.jpg.xmp", "plain2.jpg.xmp"]
    page.click("#undo")
    page.get_by_text("2 sidecars taken back").wait_for(timeout=60_000)
    assert not [*walk.glob("*.xmp"), *walk.glob("whence-undo*")]
    outside = [url for url in visit.asked if not url.startswith((one.url, "blob:", "data:"))]
    assert outside == []
    assert visit.complaints == []
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_find_what_they_need(
    browser: Any, house: tuple[Served, Path], street: Path, scheme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    one, _ = house
    # The page's own policy would not let the checker in.
    visit = Visit(browser, one.url, width=1280, height=900, bypass_csp=True)
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.set_input_files("#files", str(next((street / "asked").rglob("*.jpg"))))
    visit.page.get_by_text("1 of 1 photos have an answer").wait_for(timeout=60_000)
    found = axe.Axe().run(visit.page).response["violations"]
    visit.page.click("#tab-review")
    visit.page.click("#find")
    visit.page.locator("#proposals li").nth(1).wait_for(timeout=60_000)
    found += axe.Axe().run(visit.page).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found] == []
    visit.context.close()
