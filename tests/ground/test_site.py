"""The documentation site builds without a warning, and each link on it leads somewhere."""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import whence

pytest.importorskip("mkdocs", reason="the group `docs` is not installed")
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Links and anchors of a page, and what it asks of other machines while it is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.anchors, self.loaded = set[str](), set[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and (target := given.get("href")):
            self.links.add(target)
        if tag in ("script", "img", "link") and (target := given.get("src") or given.get("href")):
            self.loaded.add(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import warnings

    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # The builder's own libraries warn of one another.
        warnings.simplefilter("ignore")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    pages = {
        file.relative_to(site).as_posix(): Page(file.read_text(encoding="utf-8"))
        for file in site.rglob("*.html")
    }
    assert len(pages) > 25
    for name, page in pages.items():
        if name == "404.html":
            continue
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                assert link not in page.loaded, f"{name} loads {link}"
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name}: {link}"
            there = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
            if parts.fragment and there is not None:
                assert unquote(parts.fragment) in there.anchors | {"#"}, f"{name}: {link}"


def test_the_api_page_has_every_public_name(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in whence.__all__:
        assert re.search(rf'<h2 id="{name.lower()}"', text), name
    assert "Localizer.locate(" in text
