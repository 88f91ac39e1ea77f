"""The names that golden values of partitions were measured on: 1,800 photos, in an order that is
not sorted."""

from __future__ import annotations


def published_names(num: int = 1800) -> list[str]:
    """The first `num` names of the list."""
    names = []
    for i in range(num):
        east, north = (
            545000 + 7 * i % 41 + i**2 % 97 / 100,
            4178000 + 13 * i % 47 + 3 * i % 89 / 100,
        )
        names.append(f"@{east:010.2f}@{north:010.2f}@10@S@@@@@{37 * i % 360:03d}@@@@{i:06d}@@.jpg")
    return names


def columns_of(names: list[str]) -> tuple[list[float], list[float], list[float]]:
    """East, north and heading as published code reads them: the whole path split at every "@"."""
    fields = [name.split("@") for name in names]
    return tuple([float(field[k]) for field in fields] for k in (1, 2, 9))  # type: ignore[return-value]
