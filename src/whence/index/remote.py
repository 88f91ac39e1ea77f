"""Engines on a server: rows lie in a table elsewhere, under keys of their own; `milvus` and
`postgres` say how each is spoken to.

A row's key is the content of its photo, so that describing again, a killed run and a moved row
never put anything there twice: what the server has and what the database has are compared, and the
difference is written. The server finds candidates by its own approximate search; their vectors come
back with them, and similarities are computed here, exactly, as everywhere.
"""

from __future__ import annotations

import contextlib
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption, CorruptStore, InputError, StoreError
from whence.index.addresses import Address, Box
from whence.index.vectors import (
    Engine,
    as_ids,
    as_queries,
    as_vectors,
    best,
    exact_similarities,
    require_finite,
)
from whence.types import Neighbors

BATCH_ROWS = 1000
MANY_ALLOWED = 2000
"""Up to so many allowed rows are named to the server one by one, and its search among them is
exact."""
_LARGEST_FETCH = 8192
_KEY_CHARACTERS = 32


class Row(NamedTuple):
    """One row of a server's table."""

    key: str
    vector: np.ndarray
    """(D,) float32."""


class ServerTable:
    """What every server does for a `RemoteIndex`. Each method raises `StoreError` where the server
    cannot be reached or refuses."""

    def __init__(self, address: Address) -> None:
        self.address = address

    @abstractmethod
    def prepare(self, dim: int, owner: str) -> str:
        """The owner of the table, which is made where there is none."""

    @abstractmethod
    def stored_keys(self) -> Iterator[list[str]]:
        """All keys, some at a time."""

    @abstractmethod
    def put(
        self, keys: Sequence[str], vectors: np.ndarray, lat: np.ndarray, lon: np.ndarray
    ) -> None:
        """Write rows, in the place of those of the same keys. NaN is no place; infinity is several,
        which every box may hold."""

    def put_photos(self, photos: Photos) -> None:
        """Keep a table of the photos too, where the server's users would look for one; by default
        none."""

    @abstractmethod
    def drop(self, keys: Sequence[str]) -> None:
        """Take rows away; keys that are not there are ignored."""

    @abstractmethod
    def finish(self) -> None:
        """Whatever makes the table quick to search, after writing."""

    @abstractmethod
    def nearest(
        self,
        query: np.ndarray,
        num: int,
        *,
        keys: Sequence[str] | None = None,
        box: Box | None = None,
    ) -> list[Row]:
        """The `num` nearest by inner product as far as the server finds them, among keys or within
        a box."""

    def nearest_of_many(
        self, queries: np.ndarray, num: int, *, box: Box | None = None
    ) -> list[list[Row]]:
        """The same for queries (Q, D); together where the server can."""
        return [self.nearest(query, num, box=box) for query in queries]

    @abstractmethod
    def erase(self) -> None:
        """Take the whole table away."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the server; safe to call again."""

    def __del__(self) -> None:
        # A database that is dropped without being closed leaves no connection open.
        with contextlib.suppress(Exception):
            self.close()


class RemoteIndex(Engine):
    """An index whose rows are in a table of a server. Opened from a database, it asks the server
    when it is first searched."""

    def __init__(
        self, table: ServerTable, *, dim: int = 0, keys: np.ndarray | None = None, owner: str = ""
    ) -> None:
        """`keys` (N,) S32 are those of rows 0 to N - 1; without them ids are keys themselves, as
        numbers."""
        self.table, self._dim, self._owner = table, dim, owner
        self._keys = keys
        self._order = None if keys is None else np.argsort(keys, kind="stable")
        self._ids = np.empty(0, np.int64)
        self._removed = np.empty(0, np.int64)
        self._is_prepared = False

    # ---- made over a database, and kept by it

    @classmethod
    def open_table(cls, address: str) -> ServerTable:
        """The server's table of an address."""
        raise NotImplementedError

    @classmethod
    def over(cls, matrix: np.ndarray, *, address: str = "") -> Self:
        """Refused: rows without contents have no keys; see `over_contents`."""
        raise BadOption(
            f"an engine on a server is for databases: give --engine {address} to whence index"
        )

    @classmethod
    def over_contents(
        cls,
        matrix: np.ndarray,
        contents: np.ndarray,
        places: tuple[np.ndarray, np.ndarray],
        *,
        address: str,
        owner: str = "",
        photos: Photos | None = None,
        on_progress: Callable[[int], None] = lambda num: None,
    ) -> Self:
        """The engine over rows (N, D) whose photos have contents (N,) S32 and places, latitudes and
        longitudes (N,) or NaN.

        What the server lacks is written, what it has beyond that is taken away. `photos`: all
        photos of the database, of which several may share a row. `on_progress` is told how many
        rows were written, each time. Raises `StoreError`.
        """
        table = cls.open_table(address)
        engine = cls(
            table,
            dim=matrix.shape[1],
            keys=np.asarray(contents, "S32"),
            owner=owner or secrets.token_hex(8),
        )
        if not len(matrix):
            return engine
        engine._prepare()
        wanted = [key.decode() for key in engine._keys.tolist()]  # type: ignore[union-attr]
        there: set[str] = set()
        for some in table.stored_keys():
            there.update(some)
        new = [row for row, key in enumerate(wanted) if key not in there]
        for first in range(0, len(new), BATCH_ROWS):
            rows = new[first : first + BATCH_ROWS]
            vectors = as_vectors(
                np.asarray(matrix[rows], np.float32), dim=engine.dim, what="descriptors"
            )
            table.put([wanted[row] for row in rows], vectors, places[0][rows], places[1][rows])
            on_progress(len(rows))
        gone = sorted(there - set(wanted))
        for first in range(0, len(gone), BATCH_ROWS):
            table.drop(gone[first : first + BATCH_ROWS])
        # Also where no row is missing: a run may have been killed while the server built its graph.
        table.finish()
        if photos is not None:
            table.put_photos(photos)
        return engine

    def kept(self) -> dict[str, np.ndarray] | None:
        """A reference: keys of the rows, and who owns the table."""
        assert self._keys is not None
        return {"keys": self._keys, "owner": np.array(self._owner), "dim": np.array(self._dim)}

    @classmethod
    def from_kept(
        cls, arrays: Mapping[str, np.ndarray], over: np.ndarray, *, address: str = ""
    ) -> Self:
        """The engine of a reference; the server is not asked yet. Raises `InputError` where keys
        are of other rows."""
        keys = np.asarray(arrays["keys"], "S32")
        if len(keys) != len(over):
            raise InputError(
                "the keys of the engine on a server are of other rows; build the index again"
            )
        return cls(
            cls.open_table(address), dim=int(arrays["dim"]), keys=keys, owner=str(arrays["owner"])
        )

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int, address: str = "") -> int:
        """A key a row."""
        return _KEY_CHARACTERS

    # ---- an index

    @property
    def num_vectors(self) -> int:
        return len(self._ids) if self._keys is None else len(self._keys) - len(self._removed)

    @property
    def dim(self) -> int:
        return self._dim

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,). Raises `InputError`, `BadOption` and `StoreError`."""
        if self._keys is not None:
            raise BadOption(
                "an engine on a server grows with its database: add photos by whence index"
            )
        rows = as_vectors(descriptors, dim=self._dim or None, what="descriptors")
        new = as_ids(ids, num=len(rows))
        require_finite(rows, what="descriptors")
        if np.isin(new, self._ids).any():
            raise InputError("an id is already in the index; ids are unique")
        self._dim = self._dim or rows.shape[1]
        if len(new):
            self._prepare()
            nowhere = np.full(len(new), np.nan)
            for first in range(0, len(new), BATCH_ROWS):
                part = slice(first, first + BATCH_ROWS)
                self.table.put(
                    self._names(new[part]),
                    np.asarray(rows[part], np.float32),
                    nowhere[part],
                    nowhere[part],
                )
            self.table.finish()
        self._ids = np.sort(np.concatenate([self._ids, new]))

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored. Rows of a database are left out of what
        is found, not taken away."""
        gone = as_ids(ids)
        if self._keys is not None:
            inside = gone[gone < len(self._keys)]
            self._removed = np.union1d(self._removed, inside)
            return
        gone = gone[np.isin(gone, self._ids)]
        if len(gone):
            self._prepare()
            self.table.drop(self._names(gone))
            self.table.finish()
            self._ids = self._ids[~np.isin(self._ids, gone)]

    def search(
        self,
        queries: np.ndarray,
        *,
        k: int,
        allowed: np.ndarray | None = None,
        box: Box | None = None,
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D), only ids in `allowed` where given; K =
        min(k, rows searched) columns.

        A `box` around all that is allowed lets the server look there alone.
        """
        asked = as_queries(queries, dim=self._dim or None, k=k)
        pool = self._searched(allowed)
        columns = min(k, self.num_vectors if pool is None else len(pool))
        if not columns or not len(asked):
            return Neighbors(
                np.empty((len(asked), columns), np.int64),
                np.empty((len(asked), columns), np.float32),
            )
        self._prepare()
        if pool is not None and len(pool) <= MANY_ALLOWED:
            found = [self._among(query, pool, columns) for query in asked]
        else:
            fetched = self.table.nearest_of_many(asked, _margin(columns), box=box)
            found = [
                self._ranked(query, rows, pool, columns)
                for query, rows in zip(asked, fetched, strict=True)
            ]
            for number, (query, (ids, _)) in enumerate(zip(asked, found, strict=True)):
                if len(ids) < columns:
                    found[number] = self._widened(query, pool, columns, box)
        ids = np.array([ids for ids, _ in found], np.int64).reshape(len(asked), columns)
        return Neighbors(
            ids, np.array([values for _, values in found], np.float32).reshape(len(asked), columns)
        )

    def _searched(self, allowed: np.ndarray | None) -> np.ndarray | None:
        """Ids that may be found, ascending; None for all."""
        if allowed is None and not len(self._removed):
            return None
        own = np.arange(len(self._keys)) if self._keys is not None else self._ids
        own = own[~np.isin(own, self._removed)] if len(self._removed) else own
        return own if allowed is None else np.intersect1d(own, as_ids(allowed))

    def _among(
        self, query: np.ndarray, pool: np.ndarray, columns: int
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = self.table.nearest(query, _margin(columns), keys=self._names(pool))
        return self._whole(self._ranked(query, rows, pool, columns), columns)

    def _widened(
        self, query: np.ndarray, pool: np.ndarray | None, columns: int, box: Box | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ask for more and more; at last for all that is allowed, some named at a time, which is
        exact."""
        num = 4 * _margin(columns)
        while num <= _LARGEST_FETCH:
            ids, values = self._ranked(
                query, self.table.nearest(query, num, box=box), pool, columns
            )
            if len(ids) == columns:
                return ids, values
            num *= 4
        everything = self._searched(None) if pool is None else pool
        if everything is None:
            everything = np.arange(len(self._keys)) if self._keys is not None else self._ids
        parts = [
            self._among_some(query, everything[at : at + MANY_ALLOWED], columns)
            for at in range(0, len(everything), MANY_ALLOWED)
        ]
        ids, values = (np.concatenate(side) for side in zip(*parts, strict=True))
        return self._whole(best(ids, values, k=columns), columns)

    def _among_some(
        self, query: np.ndarray, some: np.ndarray, columns: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._ranked(
            query,
            self.table.nearest(query, _margin(columns), keys=self._names(some)),
            some,
            columns,
        )

    def _ranked(
        self, query: np.ndarray, rows: list[Row], pool: np.ndarray | None, columns: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and exact similarities of the best rows that are ours and allowed."""
        if not rows:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        ids = self._ids_of([row.key for row in rows])
        is_ours = ids >= 0
        if pool is not None:
            is_ours &= np.isin(ids, pool)
        vectors = np.stack([row.vector for row in rows])[is_ours]
        return best(ids[is_ours], exact_similarities(query, vectors), k=columns)

    def _whole(
        self, answer: tuple[np.ndarray, np.ndarray], columns: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(answer[0]) < columns:
            raise CorruptStore(
                self.table.address.text,
                (
                    "the server lacks rows of this database; whence database refresh writes what "
                    "is missing"
                ),
            )
        return answer

    def _names(self, ids: np.ndarray) -> list[str]:
        if self._keys is not None:
            return [key.decode() for key in self._keys[ids].tolist()]
        return [f"{number:0{_KEY_CHARACTERS}x}" for number in ids.tolist()]

    def _ids_of(self, keys: list[str]) -> np.ndarray:
        """Ids of keys; -1 for those that are not ours."""
        if self._keys is None:
            found = np.array([int(key, 16) for key in keys], np.int64)
            return np.where(np.isin(found, self._ids), found, -1)
        assert self._order is not None
        asked = np.array([key.encode() for key in keys], "S32")
        places = np.minimum(
            np.searchsorted(self._keys, asked, sorter=self._order), len(self._keys) - 1
        )
        rows = self._order[places]
        return np.where(self._keys[rows] == asked, rows, -1)

    def _prepare(self) -> None:
        """Make sure of the table, once. Raises `StoreError` for one that belongs to another
        database."""
        if self._is_prepared:
            return
        found = self.table.prepare(self._dim, self._owner or secrets.token_hex(8))
        if self._owner and found != self._owner:
            raise StoreError(
                self.table.address.text,
                (
                    "this table belongs to another database; name another one, or take that one "
                    "away first"
                ),
            )
        self._owner, self._is_prepared = found, True

    def close(self) -> None:
        """Let go of the server."""
        self.table.close()


def _margin(columns: int) -> int:
    """How many rows are fetched for so many answers: an approximate order is put right here."""
    return columns + max(10, columns // 2)
