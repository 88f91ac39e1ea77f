"""Small databases for the tests of the store, and the slow, obvious reading of one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.index.store import Store
from whence.types import GeoPoint, Photo

DIM = 6


def key(number: int) -> str:
    return f"{number:032x}"


def photos_of(numbers, *, folder="p", lat=47.0) -> Photos:
    return Photos.of(
        [
            Photo(
                path=f"{folder}/{n:04d}.jpg",
                content=key(n),
                point=GeoPoint(lat + n / 1000, 8.5),
                heading_deg=float(n % 360) if n % 2 else None,
                time=datetime(2020, 5, 17, 12, n % 60, tzinfo=UTC) if n % 3 else None,
                width=640,
                mtime_ns=n,
            )
            for n in numbers
        ]
    )


def vectors_of(numbers) -> np.ndarray:
    rows = [np.random.default_rng([7, n]).normal(size=DIM) for n in numbers]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def put(store: Store, numbers, **options) -> None:
    numbers = list(numbers)
    store.add(
        photos_of(numbers, **options),
        contents=np.array([key(n) for n in numbers]),
        descriptors=vectors_of(numbers),
    )


def make(path: Path, numbers=(), *, batch: int = 5, **options) -> Store:
    store = Store.create(path, card_id="thing.v1", dim=DIM, **options)
    numbers = list(numbers)
    for start in range(0, len(numbers), batch):
        put(store, numbers[start : start + batch])
    return store


def says(store: Store) -> dict[str, tuple[Photo, bytes | None]]:
    """The slow, obvious reading of a database: path -> record and descriptor."""
    photos, rows = store.photos, store.descriptor_rows
    return {
        photos.paths[i]: (
            photos[i],
            None if rows[i] < 0 else np.asarray(store.descriptors[rows[i]]).tobytes(),
        )
        for i in range(len(photos))
    }
