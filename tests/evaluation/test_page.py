"""The report page: what it holds, that it escapes everything and stays within its size, and how it
works in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ORIGIN, draw_place, view_of, write_photo
from whence.cli import run
from whence.data.formats import read_folders
from whence.data.images import load_image
from whence.data.photos import Photos
from whence.data.thumbnails import THUMBNAIL_PX, thumbnail_uri
from whence.errors import UnwritableFile
from whence.evaluation import html
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.drawings import draw_attentions, draw_pairs
from whence.evaluation.html import build_page, write_page
from whence.evaluation.page import Page, PageEntry, PageTable, page_of_evaluation, page_of_positions
from whence.geo import move
from whence.localize.localizer import Localizer
from whence.localize.rerank_options import RerankOptions
from whence.types import BestGuess, Candidate, PairEvidence, Position

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
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync"),
)
HOSTILE = (
    "\"'><script>window.hacked=1</script><img src=x onerror=alert(1)>&amp;{{data}}]]>"
    "\u2028é漢字🙂.jpg"
)


def content_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def entry_of(
    number: int,
    *,
    status: str,
    is_right: bool | None,
    confidence: float | None,
    photo: Path | None = None,
) -> PageEntry:
    truth = move(ORIGIN, heading_deg=90, distance_m=50 * number)
    point = move(truth, heading_deg=0, distance_m=5 if is_right else 200)
    candidates = tuple(
        Candidate(
            f"db/{number}-{rank}.jpg", rank, 1 - rank / 10, point=point, num_inliers=40 - rank
        )
        for rank in (1, 2)
    )
    position = Position(
        f"asked/{number}.jpg",
        status,  # type: ignore[arg-type]
        point=point,
        radius_m=None if confidence is None else 20.0,
        heading_deg=45.0,
        confidence=confidence,
        candidates=candidates,
        seconds={"describe": 0.05, "search": 0.001},
    )
    return PageEntry(
        position, photo, (photo, photo) if photo else (), truth, is_right, (bool(is_right), False)
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo(
        tmp_path_factory.mktemp("photo") / "a.jpg", view_of(draw_place(1), shift=0, seed=0)
    )


@pytest.fixture(scope="module")
def mixed(photo: Path) -> Page:
    """Nine queries: 4 right, 2 wrong, 2 unknown, 1 matched; 3 of the answered are unverified."""
    entries = [
        entry_of(i, status="located", is_right=True, confidence=0.9, photo=photo) for i in range(3)
    ]
    entries += [entry_of(3, status="located", is_right=True, confidence=None, photo=photo)]
    entries += [
        entry_of(i, status="located", is_right=False, confidence=(0.4, None)[i - 4], photo=photo)
        for i in (4, 5)
    ]
    entries += [entry_of(i, status="unknown", is_right=None, confidence=0.1) for i in (6, 7)]
    entries += [
        PageEntry(
            Position(HOSTILE, "matched", candidates=(Candidate(HOSTILE, 1, float("nan")),)),
            note=HOSTILE,
        )
    ]
    entries[0] = replace(entries[0], match_picture=np.zeros((40, 90, 3), np.uint8))
    table = PageTable("Recall", ("positives", "recall@1"), ((HOSTILE, "44 %"),))
    return Page(HOSTILE, tuple(entries), lines=(HOSTILE,), rule="right is right", tables=(table,))


def test_a_thumbnail_is_a_small_jpeg(photo: Path) -> None:
    uri = thumbnail_uri(photo)
    assert uri is not None
    image = load_image(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))
    original = load_image(photo)
    assert max(image.shape[:2]) == THUMBNAIL_PX
    assert image.shape[1] / image.shape[0] == pytest.approx(
        original.shape[1] / original.shape[0], rel=0.01
    )
    assert abs(float(image.mean()) - float(original.mean())) < 2
    assert thumbnail_uri(np.zeros((4, 6, 3), np.uint8)) is not None
    assert thumbnail_uri(photo.with_name("gone.jpg")) is None
    assert thumbnail_uri(b"no picture") is None


def test_nothing_a_person_names_becomes_markup(mixed: Page) -> None:
    text = build_page(mixed)
    assert "<script>window.hacked" not in text
    assert "<img src=x" not in text
    assert text.count("<script") == 2
    assert "{{" not in re.sub(r'id="data">.*?</script>', "", text, flags=re.DOTALL).replace(
        "{{data}}", "", 1
    )
    content = content_of(text)
    assert content["title"] == HOSTILE
    assert content["entries"][-1]["candidates"][0] | {"name": ""} == {
        **{
            "name": "",
            "rank": 1,
            "similarity": None,
            "inliers": None,
            "isStopped": False,
            "point": None,
            "isRight": None,
            "photo": -1,
        }
    }
    assert not re.search(
        r"(https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9]",
        re.sub(r"(?m)^\s*//.*$", "", text.split("<script>", 1)[1]),
    )


def test_what_is_known_is_on_the_page(mixed: Page) -> None:
    content = content_of(build_page(mixed))
    entries = content["entries"]
    assert [entry["verdict"] for entry in entries] == ["right"] * 4 + ["wrong"] * 2 + [""] * 3
    assert [entry["isUnverified"] for entry in entries] == [False] * 3 + [
        True,
        False,
        True,
        False,
        False,
        True,
    ]
    assert entries[0]["error"] == pytest.approx(5, abs=0.05)
    assert entries[4]["error"] == pytest.approx(200, abs=0.5)
    assert entries[0]["radius"] == 20
    assert entries[0]["candidates"][1]["inliers"] == 38
    assert (
        len(content["thumbnails"]) == 2
    )  # The one photo all entries share, and the picture of inliers.
    assert content["thumbnails"][entries[0]["match"]] != content["thumbnails"][entries[0]["photo"]]
    assert content["limits"] == []


def test_where_a_network_looked_is_drawn(mixed: Page, photo: Path) -> None:
    """Red where much counts; nothing for a model without attention, and none for a photo that is
    gone."""
    positions = [
        Position(str(photo), "unknown"),
        Position(str(photo.with_name("gone.jpg")), "unknown"),
    ]
    right_half = np.zeros((8, 8), np.float32)
    right_half[:, 4:] = 1
    drawn = draw_attentions(positions, lambda image: right_half)
    (picture,) = drawn.values()
    side = picture.shape[1] // 4
    left, right = picture[:, :side].astype(int), picture[:, -side:].astype(int)
    assert (right - left)[..., 0].mean() > 20 > (right - left)[..., 2].mean()
    assert draw_attentions(positions, lambda image: None) == {}
    page = page_of_positions(positions, database=Photos.of([]), attention_pictures=drawn)
    content = content_of(build_page(page))
    assert [entry["attention"] >= 0 for entry in content["entries"]] == [True, False]
    assert content["entries"][0]["attention"] != content["entries"][0]["photo"]


def test_an_unknown_place_shows_its_best_guess() -> None:
    entry = entry_of(3, status="unknown", is_right=None, confidence=None)
    guess = BestGuess("db/1.jpg", entry.position.point, radius_m=9.0, confidence=0.2)
    position = replace(entry.position, point=None, best_guess=guess)
    (shown,) = content_of(build_page(Page("one", (replace(entry, position=position),))))["entries"]
    assert (shown["confidence"], shown["radius"], shown["verdict"]) == (0.2, None, "")
    assert shown["point"] is not None
    assert shown["error"] == pytest.approx(200, abs=0.5)


def test_outlines_of_land_where_answers_lie_far_apart() -> None:
    near = entry_of(0, status="located", is_right=True, confidence=0.9)
    far = PageEntry(replace(near.position, point=move(ORIGIN, heading_deg=180, distance_m=900_000)))
    assert content_of(build_page(Page("near", (near,))))["land"] is None
    assert content_of(build_page(Page("far", (near, far))))["land"]["objects"]["land"]


def test_the_page_stays_under_its_limit_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [
        write_photo(tmp_path / f"{i}.jpg", view_of(draw_place(i), shift=0, seed=i))
        for i in range(8)
    ]
    entries = [
        entry_of(i, status="located", is_right=i != 6, confidence=0.9, photo=photos[i])
        for i in range(8)
    ]
    page = Page("many", tuple(entries))
    whole = build_page(page)
    limit = len(build_page(replace(page, entries=()))) + 12_000 + 2 * (len(whole) // 10)
    bounded = build_page(page, max_bytes=limit)
    assert len(bounded.encode()) <= limit + 200  # The sentence that says so.
    content = content_of(bounded)
    assert 0 < len(content["thumbnails"]) < 8
    assert content["limits"] == [
        (
            f"{8 - len(content['thumbnails'])} photos are not shown, to keep this page under its "
            "limit of size."
        )
    ]
    assert content["entries"][6]["photo"] == 0  # The wrong one comes first.
    monkeypatch.setattr(html, "MAX_PAGE_QUERIES", 3)
    cut = content_of(build_page(page))
    assert [entry["name"] for entry in cut["entries"]] == [
        "asked/0.jpg",
        "asked/1.jpg",
        "asked/6.jpg",
    ]
    assert cut["limits"][0].startswith("5 of 8 queries")


def test_an_empty_page_and_one_that_cannot_be_written(tmp_path: Path, mixed: Page) -> None:
    assert content_of(build_page(Page("nothing", ())))["entries"] == []
    with pytest.raises(UnwritableFile, match="no-folder"):
        write_page(tmp_path / "no-folder" / "page.html", mixed)
    write_page(tmp_path / "page.html", replace(mixed, title="a \udcff name"))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_pages_of_answers_and_of_evaluations(tmp_path: Path, street: Path) -> None:
    queries = sorted((street / "queries").iterdir())[:3]
    plain = tmp_path / "plain.jpg"
    shutil.copy(queries[0], plain)
    with Localizer.build(street / "database", path=tmp_path / "a.whence") as localizer:
        positions = list(localizer.locate_many([*queries, plain, tmp_path / "gone.jpg"]))
        drawn = draw_pairs(positions, database=localizer.photos, max_pictures=2)
        page = page_of_positions(
            positions, database=localizer.photos, notes={str(plain): "a copy"}, match_pictures=drawn
        )
    assert set(drawn) == {str(query) for query in queries[:2]}
    assert page.entries[1].match_picture is drawn[str(queries[1])]
    assert page.entries[2].match_picture is None
    assert [entry.is_right for entry in page.entries] == [True, True, True, None, None]
    assert page.entries[0].are_positives[0] is True
    assert page.entries[0].are_positives[-1] is False
    assert page.entries[0].candidate_photos[0].is_file()
    assert (page.entries[3].truth, page.entries[3].note) == (None, "a copy")
    assert "within 25 m" in page.rule
    result = evaluate("rootsift-vlad", read_folders(street), show_progress=False)
    scored = page_of_evaluation(result)
    recall = next(one for one in result.thresholds if one.threshold_m == 25).all_queries[0]
    assert sum(entry.is_right is True for entry in scored.entries) == recall.num_right
    assert result.protocol in scored.lines[1]
    assert scored.entries[0].position.candidates[0].num_inliers is None
    options = EvaluationOptions(rerank=RerankOptions(num_candidates=3))
    reranked = page_of_evaluation(
        evaluate("rootsift-vlad", read_folders(street), options=options, show_progress=False)
    )
    counts = [candidate.num_inliers for candidate in reranked.entries[0].position.candidates[:5]]
    assert counts[0] is not None
    assert counts[0] >= 8
    assert counts[3:] == [None, None]
    assert "inliers among the first 3" in reranked.lines[1]
    assert (
        scored.tables[0].rows[1][2].startswith(f"{100 * recall.value:.1f} % ({recall.num_right}/24")
    )


def test_the_verbs_write_it(
    tmp_path: Path, street: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, report = str(tmp_path / "a.whence"), tmp_path / "report.html"
    query = str(sorted((street / "queries").iterdir())[5])
    assert run(["index", str(street / "database"), "--db", database, "--quiet"]) == 0
    assert run(["locate", query, "--db", database, "--report", str(report)]) == 0
    assert content_of(report.read_text())["entries"][0]["name"] == query
    assert (
        run(["evaluate", str(street), "--quiet", "--report", str(tmp_path / "evaluation.html")])
        == 0
    )
    assert len(content_of((tmp_path / "evaluation.html").read_text())["entries"]) == 24
    capsys.readouterr()
    assert (
        run(["locate", query, "--db", database, "--report", str(tmp_path / "none" / "r.html")]) == 1
    )
    assert "cannot write" in capsys.readouterr().err


# ---- in a real browser ---------------------------------------------------------------------------


class Browsed:
    """A page open in Chromium, and everything it asked for or complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#map .scale", state="attached")

    def until(self, script: str) -> None:
        """Wait until an expression holds: polled from here, since the page's policy forbids the
        tool's own way."""
        for _ in range(100):
            if self.page.evaluate(script):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {script}")

    def counts(self) -> dict[str, int]:
        script = (
            "() => [...document.querySelectorAll('#filters button')].map((b) => [b.id.slice(2), "
            "+b.querySelector('b').textContent])"
        )
        return dict(self.page.evaluate(script))

    def num(self, selector: str) -> int:
        return self.page.locator(selector).count()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
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
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def browsed(chromium: Any) -> Iterator[Browsed]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield Browsed(context.new_page())
    context.close()


def test_in_a_browser_filters_work_and_nothing_is_requested(
    tmp_path: Path, mixed: Page, browsed: Browsed
) -> None:
    path = tmp_path / "report é #1.html"
    write_page(path, mixed)
    browsed.open(path)
    page = browsed.page
    assert browsed.counts() == {
        "all": 9,
        "wrong": 2,
        "unknown": 2,
        "located": 6,
        "unverified": 3,
        "matched": 1,
        "right": 4,
    }
    for name, number in browsed.counts().items():
        page.click(f"#f-{name}")
        assert browsed.num(".card") == number
        assert page.get_attribute(f"#f-{name}", "aria-pressed") == "true"
        on_map = (
            sum(entry.position.point is not None for entry in mixed.entries)
            if name == "all"
            else number * (name != "matched")
        )
        browsed.until(
            "document.querySelectorAll('#map .answer').length === "
            f"{on_map - (name == 'unverified')}"
        )
    page.click("#f-all")
    page.fill("#search", "asked/4")
    assert (browsed.counts()["all"], browsed.counts()["wrong"], browsed.num(".card")) == (1, 1, 1)
    page.fill("#search", "no such photo")
    assert page.inner_text("#shown") == "No query is like that."
    assert all(url.startswith(("file:", "data:")) for url in browsed.requests)
    assert browsed.complaints == []


def test_in_a_browser_land_is_drawn(tmp_path: Path, browsed: Browsed) -> None:
    near = entry_of(0, status="located", is_right=True, confidence=0.9)
    far = PageEntry(replace(near.position, point=move(ORIGIN, heading_deg=180, distance_m=900_000)))
    write_page(tmp_path / "page.html", Page("far", (near, far)))
    browsed.open(tmp_path / "page.html")
    browsed.until("document.querySelector('#map .coast').getAttribute('d').length > 10000")
    assert browsed.complaints == []


def test_in_a_browser_hostile_names_stay_text(
    tmp_path: Path, mixed: Page, browsed: Browsed
) -> None:
    write_page(tmp_path / "page.html", mixed)
    browsed.open(tmp_path / "page.html")
    page = browsed.page
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.title") == HOSTILE
    assert page.evaluate("document.getElementById('title').textContent") == HOSTILE
    assert (
        page.evaluate("document.querySelectorAll('#queries script, #queries img[onerror]').length")
        == 0
    )
    assert "<script>window.hacked=1</script>" in page.evaluate(
        "document.querySelector('#q8').textContent"
    )
    # The policy of the page itself refuses to load anything.
    page.evaluate(
        "() => { const i = new Image(); i.src = 'file:///etc/hostname'; document.body.append(i); }"
    )
    page.wait_for_timeout(100)
    assert any("Content Security Policy" in line for line in browsed.complaints)
    assert all(url.startswith(("file:", "data:")) for url in browsed.requests)


def test_in_a_browser_map_and_keys(tmp_path: Path, mixed: Page, browsed: Browsed) -> None:
    write_page(tmp_path / "page.html", mixed)
    browsed.open(tmp_path / "page.html")
    page = browsed.page
    browsed.until("document.querySelectorAll('#map .answer').length === 8")
    assert (
        browsed.num("#map circle.radius") == 4
    )  # Located with a radius; the unknown ones promise none.
    assert browsed.num("#map .grid") >= 2
    before = page.evaluate("document.querySelector('#map .scale text').textContent")
    page.focus("#map")
    for _ in range(4):
        page.keyboard.press("+")
    browsed.until(
        f"document.querySelector('#map .scale text').textContent !== {json.dumps(before)}"
    )
    page.keyboard.press("0")
    browsed.until(
        f"document.querySelector('#map .scale text').textContent === {json.dumps(before)}"
    )
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.querySelector('.card.on').id") == "q1"
    page.keyboard.press("k")
    assert page.evaluate("document.querySelector('.card.on').id") == "q0"
    page.keyboard.press("2")
    assert browsed.num(".card") == 2
    page.keyboard.press("1")
    browsed.until("document.querySelectorAll('#map .answer').length === 8")
    page.evaluate("scrollTo(0, 0)")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator('#map .answer[data-id="5"] circle').first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate("document.querySelector('.card.on').id") == "q5"
    assert browsed.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_on_a_phone(tmp_path: Path, mixed: Page, chromium: Any, scheme: str) -> None:
    write_page(tmp_path / "page.html", mixed)
    context = chromium.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    browsed = Browsed(context.new_page())
    browsed.open(tmp_path / "page.html")
    assert browsed.page.evaluate("document.documentElement.scrollWidth") <= 360
    colours = browsed.page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; "
        "})()"
    )
    levels = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
    assert (levels[0] < levels[1]) == (scheme == "light")
    assert abs(levels[0] - levels[1]) > 450
    browsed.page.click("#theme")
    assert browsed.page.evaluate("getComputedStyle(document.body).color") != colours[0]
    assert browsed.complaints == []
    context.close()


def test_in_a_browser_without_coordinates_there_is_no_map(
    tmp_path: Path, mixed: Page, browsed: Browsed
) -> None:
    write_page(tmp_path / "page.html", replace(mixed, entries=mixed.entries[-1:]))
    browsed.page.goto((tmp_path / "page.html").as_uri())
    assert not browsed.page.is_visible("#mapbox")
    assert browsed.num(".card") == 1
    assert browsed.complaints == []


def test_a_comparison_cut_short_is_not_shown_as_a_count(tmp_path: Path, browsed: Browsed) -> None:
    entry = entry_of(1, status="located", is_right=True, confidence=0.9)
    first, second = entry.position.candidates
    cut = replace(second, num_inliers=0, evidence=PairEvidence(0.0, is_stopped=True))
    position = replace(entry.position, candidates=(first, cut))
    write_page(tmp_path / "page.html", Page("one", (replace(entry, position=position),)))
    browsed.open(tmp_path / "page.html")
    captions = browsed.page.locator(".cands figcaption").all_inner_texts()
    assert "39 inliers" in captions[0]
    assert "cut short" in captions[1]
    assert "inliers" not in captions[1]
