"""Files of other projects that come along are what they were released as, each named with its
licence."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import pytest

RELEASED = {
    "maplibre-gl.mjs": "e02cb08c572fd0950a75343cd558099c2a1dbbaf67f26b0c96f115431962d1ae",
    "maplibre-gl-worker.mjs": "73d7a024a4efe1a46e49db193e18cfe33271e3ecc652ec7542c281a4ef5f0f04",
    "maplibre-gl.css": "a90798a1953017790e590f7e1bd35ff103a8a4263972cb47290b78adf86f8c20",
    "countries-50m.json": "04342cdc1e3016bcd7db1630de95684d67b79fe3c8c460321e87aef469502394",
    "land-110m.json": "ead5f68119c49a9250902e7da303bcb209341bbb8fefe7369a439b48b704658a",
}
"""SHA-256 of the files as the npm registry has them: maplibre-gl 6.17.0 and world-atlas 2.0.2."""
CARRIED = files("whence.web") / "carried"


@pytest.mark.parametrize("name", RELEASED)
def test_carried_files_are_unchanged(name: str) -> None:
    assert hashlib.sha256((CARRIED / name).read_bytes()).hexdigest() == RELEASED[name]
    assert name in (CARRIED / "LICENSES.txt").read_text(encoding="utf-8")


def test_nothing_else_is_carried() -> None:
    assert {file.name for file in CARRIED.iterdir()} == {*RELEASED, "LICENSES.txt"}
