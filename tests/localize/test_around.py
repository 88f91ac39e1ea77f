"""The geographic filter against its definition: the straight distance of every place, one by
one."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from whence.geo import to_earth_centred
from whence.localize.retrieve import Around
from whence.types import GeoPoint


def slowly(around: Around, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    here = to_earth_centred(np.array(around.near.lat), np.array(around.near.lon))
    return np.linalg.norm(to_earth_centred(lat, lon) - here, axis=1) <= around.within_m


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 7.2), st.integers(0, 2**32 - 1))
@example(90.0, 12.0, 6.0, 0)
@example(-17.0, 180.0, 4.0, 1)
@example(0.0, -180.0, 7.1, 2)
@example(60.0, 10.0, 6.95, 3)
def test_the_box_leaves_nothing_out(lat: float, lon: float, power: float, seed: int) -> None:
    around, random = Around(GeoPoint(lat, lon), 10.0**power), np.random.default_rng(seed)
    far = np.degrees(np.arcsin(random.uniform(-1, 1, 200))), random.uniform(-180, 180, 200)
    spread = 10.0**power / 110_000 * 1.5
    near = (
        np.clip(lat + random.uniform(-spread, spread, 200), -90, 90),
        (lon + random.uniform(-spread, spread, 200) + 540) % 360 - 180,
    )
    lats, lons = (np.concatenate([*one, [np.nan]]) for one in zip(far, near, strict=True))
    assert np.array_equal(around.holds(lats, lons), slowly(around, lats, lons))
