"""Positions without photos: columns on disk, opened as memory maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.errors import UnreadableTable

POSITION_COLUMNS: dict[str, type] = {
    "east_m": np.float64,
    "north_m": np.float64,
    "heading_deg": np.float32,
    "year": np.int16,
    "stop": np.int32,
    "role": np.uint8,
}
"""Columns of positions without photos, and their types on disk."""


@dataclass(frozen=True)
class PositionColumns:
    """Positions without photos, as memory maps."""

    folder: Path
    zone: str
    east_m: np.ndarray
    north_m: np.ndarray
    heading_deg: np.ndarray
    year: np.ndarray
    stop: np.ndarray
    role: np.ndarray
    """0 database, 1 queries."""

    def __len__(self) -> int:
        return len(self.east_m)

    @classmethod
    def open(cls, folder: str | Path) -> PositionColumns:
        """The columns of a folder, opened. Raises `UnreadableTable`."""
        folder = Path(folder)
        described = folder / "positions.json"
        try:
            zone = json.loads(described.read_text(encoding="utf-8"))["zone"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnreadableTable(
                described, f"not the record of a folder of positions ({error})"
            ) from None
        columns = {}
        for name, dtype in POSITION_COLUMNS.items():
            path = folder / f"{name}.npy"
            try:
                columns[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise UnreadableTable(path, f"not a column of positions ({error})") from None
            if (
                columns[name].dtype != dtype
                or columns[name].shape != columns["east_m"].shape
                or columns[name].ndim != 1
            ):
                raise UnreadableTable(
                    path, f"a column of {np.dtype(dtype)} as long as east_m is expected"
                )
        return cls(folder, str(zone), **columns)
