"""Crops of panoramas: golden columns, and what headings mean."""

from __future__ import annotations

import numpy as np
import pytest

from whence.data.panoramas import (
    CROP_DEG,
    cut_crop,
    direction_deg,
    heading_of_left,
    heading_of_middle,
    is_panorama,
    left_column,
)

FOCAL = (545002.0352, 4178013.6805)


@pytest.mark.parametrize(
    ("seen_from", "heading_deg", "columns"),
    [
        ((545001, 4178002), 0, (1454, 1709, 1710, 1965)),
        ((545001, 4178002), 90, (622, 877, 878, 1133)),
        ((545001, 4178002), 180, (3118, 45, 46, 301)),
        ((545004, 4178003), 275, (2096, 2351, 2352, 2607)),
        ((545010, 4178012), 310, (1148, 1403, 1404, 1659)),
        ((545001, 4178002), 275, (2239, 2494, 2495, 2750)),
        ((545004, 4178003), 180, (2975, 3230, 3231, 158)),
    ],
)
def test_golden_columns(
    seen_from: tuple[int, int], heading_deg: int, columns: tuple[int, ...]
) -> None:
    """A panorama whose pixels are their columns, measured with the published code."""
    panorama = np.broadcast_to(np.arange(3328, dtype=np.int32)[None, :, None], (512, 3328, 3))
    looking = float(direction_deg(np.array(seen_from), np.array(FOCAL)))
    crop = cut_crop(panorama, left_column(looking, heading_deg=heading_deg, height_px=512))
    assert crop.shape == (512, 512, 3)
    assert tuple(crop[7, [0, 255, 256, 511], 1]) == columns


def test_golden_directions() -> None:
    seen_from = np.array([(545001, 4178002), (545004, 4178003), (545010, 4178012)])
    np.testing.assert_allclose(
        direction_deg(seen_from, np.array(FOCAL)), [5.0648, 349.5765, 281.9141], atol=1e-3
    )


@pytest.mark.parametrize("heading_deg", [0, 17, 90, 181, 270, 359.5, 360])
def test_a_crop_s_middle_looks_where_it_is_asked_to(heading_deg: float) -> None:
    for looking in (0.0, 12.3, 90.0, 200.0, 359.9):
        left = left_column(looking, heading_deg=heading_deg, height_px=512)
        middle = (left + 256) % 3328
        seen = (heading_deg + (middle - 1664) * 360 / 3328) % 360
        assert abs((seen - looking + 180) % 360 - 180) < 2.1 * 360 / 3328


def test_names_carry_the_left_column() -> None:
    assert pytest.approx(55.3846, abs=1e-4) == CROP_DEG
    assert heading_of_middle(np.array([0.0, 350.0])).tolist() == pytest.approx(
        [27.6923, 17.6923], abs=1e-4
    )
    assert heading_of_left(heading_of_middle(np.arange(0, 360, 30.0))) == pytest.approx(
        np.arange(0, 360, 30.0), abs=1e-9
    )


def test_shapes() -> None:
    assert is_panorama(3328, 512)
    assert is_panorama(624, 96)
    assert is_panorama(306, 47), "an odd height is rounded"
    assert not is_panorama(512, 512)
    assert not is_panorama(3328, 1664)
    assert not is_panorama(640, 480)
    assert not is_panorama(7, 0)
