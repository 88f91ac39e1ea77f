"""Cached arrays of photos (local descriptors) in shards: one index file and one memory-mapped data
file for many photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from whence.errors import CorruptStore, InputError
from whence.index.files import missing_file, read_npz, remove_files, write_data_file, write_npz
from whence.index.manifest import ShardEntry
from whence.index.segments import KEY_DTYPE

Record = Mapping[str, np.ndarray]
_ALIGN_BYTES = 64
_MAX_AXES = 8


class Shard:
    """One shard; its index is read at first use, its data is mapped."""

    def __init__(self, folder: Path, entry: ShardEntry) -> None:
        self.folder = folder
        self.entry = entry

    @cached_property
    def _index(self) -> dict[str, np.ndarray]:
        return read_npz(self.folder, self.entry.index)

    @cached_property
    def _data(self) -> np.ndarray:
        if self.entry.data.size_bytes == 0:
            return np.empty(0, np.uint8)
        try:
            return np.memmap(self.folder / self.entry.data.name, dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise missing_file(self.folder, self.entry.data.name) from error
        except (OSError, ValueError) as error:
            raise CorruptStore(
                self.folder, f"{self.entry.data.name} cannot be mapped ({error})"
            ) from error

    @cached_property
    def position_of(self) -> dict[bytes, int]:
        """Content key -> position of its record."""
        contents = self.contents
        return dict(zip(contents.tolist(), range(len(contents)), strict=True))

    @property
    def contents(self) -> np.ndarray:
        """(R,) S32 content keys of the records."""
        return self._index["contents"].astype(KEY_DTYPE, copy=False)

    def record(self, position: int) -> dict[str, np.ndarray]:
        """The arrays of one record: read-only views into the mapped file."""
        index = self._index
        first, last = index["record_offsets"][position : position + 2].tolist()
        try:
            return {
                str(index["names"][index["name"][i]]): self._array(i) for i in range(first, last)
            }
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CorruptStore(
                self.folder, f"{self.entry.index.name} is damaged ({error}); rebuild the database"
            ) from error

    def _array(self, i: int) -> np.ndarray:
        dtype = np.dtype(str(self._index["dtypes"][self._index["dtype"][i]]))
        shape = tuple(self._index["shape"][i, : self._index["num_axes"][i]].tolist())
        start = int(self._index["offset"][i])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._data[start : start + size].view(dtype).reshape(shape)

    def records(self, positions: Iterable[int]) -> Iterator[dict[str, np.ndarray]]:
        return (self.record(position) for position in positions)


class Records(Sequence[Record]):
    """All records of a shard, each read when asked for: a cache may be larger than memory."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def __len__(self) -> int:
        return self._shard.entry.num_records

    def __getitem__(self, position: int) -> Record:  # type: ignore[override]
        return self._shard.record(position)


def write_shard(
    folder: Path, contents: np.ndarray, records: Iterable[Record], *, number: int, level: int
) -> ShardEntry:
    """A file of the records of these content keys, written one after the other, holding one at a
    time; the caller lists it or deletes it."""
    names: dict[str, int] = {}
    dtypes: dict[str, int] = {}
    arrays: list[tuple[int, int, int, int, tuple[int, ...]]] = []
    record_offsets = [0]
    data_name, index_name = f"{number:08d}.cache.bin", f"{number:08d}.cache.npz"

    def fill(file: object) -> None:
        write, start = file.write, 0  # type: ignore[attr-defined]
        for record in records:
            for name, given in record.items():
                array = np.ascontiguousarray(given).reshape(np.shape(given))
                if array.dtype.hasobject or array.dtype.names or array.ndim > _MAX_AXES:
                    raise InputError(
                        f"array {name!r} ({array.dtype}, {array.ndim} axes) cannot be cached: "
                        "give plain numbers or text"
                    )
                padding = -array.nbytes % _ALIGN_BYTES
                write(array.tobytes() + b"\0" * padding)
                shape = array.shape + (0,) * (_MAX_AXES - array.ndim)
                name_id = names.setdefault(str(name), len(names))
                arrays.append(
                    (
                        name_id,
                        dtypes.setdefault(array.dtype.str, len(dtypes)),
                        start,
                        array.ndim,
                        shape,
                    )
                )
                start += array.nbytes + padding
            record_offsets.append(len(arrays))

    data = write_data_file(folder, data_name, fill)
    if len(record_offsets) != len(contents) + 1:
        remove_files(folder, [data_name])
        raise InputError(f"{len(contents)} content keys for {len(record_offsets) - 1} records")
    columns = {
        "contents": contents,
        "record_offsets": np.array(record_offsets, np.int64),
        "names": np.array(list(names) or [""]),
        "dtypes": np.array(list(dtypes) or [""]),
        "name": np.array([row[0] for row in arrays], np.int32),
        "dtype": np.array([row[1] for row in arrays], np.int32),
        "offset": np.array([row[2] for row in arrays], np.int64),
        "num_axes": np.array([row[3] for row in arrays], np.int32),
        "shape": np.array([row[4] for row in arrays], np.int64).reshape(-1, _MAX_AXES),
    }
    try:
        index = write_npz(folder, index_name, columns)
    except BaseException:
        remove_files(folder, [data_name])
        raise
    return ShardEntry(index, data, len(contents), level)


def merge_shards(
    folder: Path, shards: Sequence[Shard], *, keep: np.ndarray | None, number: int, level: int
) -> ShardEntry | None:
    """One shard of several, with the records of the content keys in `keep` only (all where None);
    None where nothing is left."""
    chosen = []
    for shard in shards:
        mask = (
            np.ones(shard.entry.num_records, bool)
            if keep is None
            else np.isin(shard.contents, keep)
        )
        chosen.append(np.flatnonzero(mask))
    contents = np.concatenate(
        [shard.contents[rows] for shard, rows in zip(shards, chosen, strict=True)]
    )
    if len(contents) == 0:
        return None
    records = (
        record
        for shard, rows in zip(shards, chosen, strict=True)
        for record in shard.records(rows.tolist())
    )
    return write_shard(folder, contents, records, number=number, level=level)
