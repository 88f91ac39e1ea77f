"""Where the real test sets are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def test_data() -> Path:
    """The folder of the real test sets; the test is skipped where WHENCE_TEST_DATA does not name it."""
    folder = os.environ.get("WHENCE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WHENCE_TEST_DATA does not name the folder of the real test sets")
    return Path(folder)
