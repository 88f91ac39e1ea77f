"""Pictures and folders the tests share. Everything is made from seeds; the real sets are found
through WHENCE_TEST_DATA."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

from whence.data.names import format_name
from whence.geo import from_local_metres
from whence.localize import unknown
from whence.runtime import set_threads
from whence.types import GeoPoint
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

# The client of Milvus leaves threads of gRPC behind; tests that fork from the same process are not
# theirs to look after.
os.environ["GRPC_ENABLE_FORK_SUPPORT"], os.environ["GRPC_VERBOSITY"] = "0", "NONE"
ORIGIN = GeoPoint(59.32, 18.07)
SOURCES = {
    "gsv_cities": (CitySize("city00", "", 8, 0, 0), CitySize("city01", "", 8, 0, 0)),
    "msls": (CitySize("city00", "", 12, 4, 0), CitySize("city01", "", 12, 4, 0)),
    "megascenes": (CitySize("city00", "", 16, 0, 0),),
    "scannet": (CitySize("city00", "", 60, 12, 0),),
    "revisited": (CitySize("city00", "", 16, 4, 0),),
}
"""Cities of the sources of MegaLoc, by layout."""

settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes gigabytes or minutes is passed over, saying so, unless WHENCE_TEST_LARGE is
    set."""
    if not os.environ.get("WHENCE_TEST_LARGE"):
        for item in items:
            if item.get_closest_marker("large"):
                item.add_marker(
                    pytest.mark.skip(reason="gigabytes or minutes: WHENCE_TEST_LARGE is not set")
                )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The slowest files, so that what makes the suite long is seen."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            seconds[getattr(report, "nodeid", "").partition("::")[0]] += getattr(
                report, "duration", 0.0
            )
    if sum(seconds.values()) > 60:
        terminalreporter.write_sep("-", f"slowest files of {sum(seconds.values()):.0f} s")
        for name, spent in seconds.most_common(12):
            terminalreporter.write_line(f"{spent:6.0f} s  {name}")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Every numerical library works with one thread: pools that spin against each other make tests
    slow."""
    import faiss  # noqa: F401  (imported so that its pool is bounded too)

    set_threads(1)


@pytest.fixture(scope="session", autouse=True)
def nothing_asked_again() -> Iterator[None]:
    """Unknown photos are not asked again by weights that happen to lie on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unknown, "find_weights", lambda card: None)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the small real sets."""
    named = os.environ.get("WHENCE_TEST_DATA")
    if not named:
        pytest.skip("WHENCE_TEST_DATA is not set: the real test sets are not looked at")
    if not Path(named).is_dir():
        pytest.skip(f"WHENCE_TEST_DATA={named} is not a folder")
    return Path(named)


def draw_place(seed: int, *, width: int = 480, height: int = 240) -> np.ndarray:
    """A picture with plenty of corners, its own for every seed: overlapping boxes, lines and discs,
    (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), random.integers(90, 200, 3), np.uint8)
    for _ in range(90):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        w, h = (int(side) for side in random.integers(6, 50, 2))
        colour = tuple(int(value) for value in random.integers(0, 255, 3))
        kind = random.integers(0, 3)
        if kind == 0:
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
        elif kind == 1:
            cv2.circle(image, (x, y), w // 2, colour, -1)
        else:
            cv2.line(image, (x, y), (x + w, y - h), colour, 2)
    return image


def view_of(
    place: np.ndarray, *, shift: int, seed: int, size: tuple[int, int] = (320, 200)
) -> np.ndarray:
    """A photo of a place: a window moved by `shift` pixels, with its own brightness and noise."""
    random = np.random.default_rng([seed, shift])
    width, height = size
    window = place[10 : 10 + height, 40 + shift : 40 + shift + width].astype(np.float32)
    noisy = window * random.uniform(0.8, 1.15) + random.normal(0, 4, window.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_photo(path: Path, image: np.ndarray) -> Path:
    """Write RGB pixels as the format of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())
    return path


def write_street(
    folder: Path, *, num_places: int, shift: int, run: int, spacing_m: float = 60.0
) -> list[Path]:
    """One photo per place along a street, with "@" names: places `spacing_m` apart, the run a few
    metres aside."""
    paths = []
    for place in range(num_places):
        east, north = np.array(place * spacing_m), np.array(3.0 * run)
        lat, lon = from_local_metres(east, north, origin=ORIGIN)
        name = format_name(
            point=GeoPoint(float(lat), float(lon)), pano_id=f"{place:04d}r{run}", heading_deg=90.0
        )
        paths.append(write_photo(folder / name, view_of(draw_place(place), shift=shift, seed=run)))
    return paths


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny city of small photos. Tests must not change it."""
    folder = tmp_path_factory.mktemp("world") / "city"
    render_world(
        folder,
        preset="tiny",
        options=WorldOptions(capture=CaptureOptions(width=64, height=48)),
        num_workers=1,
    )
    return folder


@pytest.fixture(scope="session")
def sf_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street of panoramas, crops and a few queries in the layout of SF-XL. Tests must not change
    it."""
    folder = tmp_path_factory.mktemp("sf_xl") / "city"
    options = WorldOptions(
        CaptureOptions(width=32, height=32), px_per_m=8, cities=(CitySize("city00", "", 10, 4, 0),)
    )
    render_world(folder, seed=3, layout="sf_xl", options=options, num_workers=1)
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, sf_xl: Path) -> dict[str, Path]:
    """A small world in the layout of each source of MegaLoc, by its name, and one of landmarks.
    Tests must not change them."""
    root = tmp_path_factory.mktemp("sources")
    for layout, cities in SOURCES.items():
        options = WorldOptions(CaptureOptions(width=48, height=32), px_per_m=8, cities=cities)
        render_world(root / layout, seed=3, layout=layout, options=options, num_workers=1)
    return {**{layout: root / layout for layout in SOURCES}, "sf_xl": sf_xl}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for, empty and of this test alone; nothing is fetched."""
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 24 places: database/ and queries/ with "@" names. Tests must not change it."""
    root = tmp_path_factory.mktemp("street")
    write_street(root / "database", num_places=24, shift=0, run=0)
    write_street(root / "queries", num_places=24, shift=25, run=1)
    return root
