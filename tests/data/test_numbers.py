"""Finite numbers out of what tags, tables and sidecars hold."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL.TiffImagePlugin import IFDRational

from whence.data.numbers import finite_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (" 2.5 ", 2.5),
        ("-1e3", -1000.0),
        (np.float32(0.5), 0.5),
        (Fraction(1, 4), 0.25),
        (IFDRational(1, 8), 0.125),
    ],
)
def test_numbers_and_texts_that_are_some(value: Any, number: float) -> None:
    found = finite_number(value)
    assert found == number
    assert type(found) is float


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "nan",
        "inf",
        float("nan"),
        float("-inf"),
        True,
        [1],
        {},
        10**400,
        IFDRational(0, 0),
        np.float32("nan"),
    ],
)
def test_anything_else_is_none(value: Any) -> None:
    assert finite_number(value) is None
