"""`AnnIndex`: approximate search. Compact codes (faiss) name some hundred candidates, the original
rows put them in order.

Scanning all codes and rescoring loses far less on noisy queries than graphs and inverted lists do,
and builds in seconds; hence the default. Any faiss factory string may be asked for instead. All of
them are made with the inner product as metric: scalar and product quantisers, inverted lists and
graphs honour it, also for rows that are not unit vectors; LSH ignores it, which rescoring only
partly repairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from whence.errors import BadOption, InputError
from whence.index.flat import FlatIndex, read_saved
from whence.index.gather import RowReader
from whence.index.vectors import Engine, as_ids, as_queries, best, exact_similarities
from whence.runtime import atomic_write, random_stream
from whence.types import Neighbors

EXACT_BELOW = 20_000
ADD_ROWS = 65_536
TRAIN_ROWS = 16_384
TRAIN_ROWS_PER_LIST = 64


class AnnIndex(Engine):
    """Candidates from compact codes, exact similarities from the original rows; exact altogether
    while there are few rows.

    Filters are exact: nothing outside `allowed` is returned and columns are never missing. Small
    filters are searched exactly.
    """

    def __init__(
        self,
        *,
        factory: str = "auto",
        rescore: int | None = None,
        settings: str = "",
        exact_below: int | None = None,
        dim: int | None = None,
    ) -> None:
        """`factory`: a faiss factory string. `rescore`: candidates per query (default
        `default_rescore`). `settings`: faiss search parameters such as "nprobe=64". Below
        `exact_below` rows (default `EXACT_BELOW`) no codes are made. Raises `BadOption`.
        """
        if rescore is not None and rescore < 1:
            raise BadOption(
                f"rescore is {rescore}; give the number of candidates per query, at least 1"
            )
        self._factory, self._rescore, self._settings = factory, rescore, settings
        self._exact_below = EXACT_BELOW if exact_below is None else exact_below
        self._flat = FlatIndex(dim=dim)
        self._ids = np.empty(0, np.int64)
        self._is_there = np.empty(0, bool)
        self._parts: list[np.ndarray] = []
        self._reader = RowReader([])
        self._codes: Any = None
        if dim is not None:
            make_codes(factory, dim=dim, settings=settings)

    @classmethod
    def over(
        cls,
        matrix: np.ndarray,
        *,
        ids: np.ndarray | None = None,
        factory: str = "auto",
        rescore: int | None = None,
        settings: str = "",
        exact_below: int | None = None,
    ) -> Self:
        """An index over the rows of an array or memory map, which stay where they are; `build`
        makes the codes."""
        flat = FlatIndex.over(matrix, ids=ids)
        index = cls(factory=factory, rescore=rescore, settings=settings, exact_below=exact_below)
        index._flat = flat
        index._append(flat.ids, matrix)
        return index

    @classmethod
    def from_kept(
        cls, arrays: Mapping[str, np.ndarray], over: np.ndarray, *, factory: str = "auto"
    ) -> Self:
        """The index whose `kept` gave the codes, over the same rows. Raises `InputError` where they
        do not belong together."""
        index = cls.over(over, factory=factory)
        index._codes = read_codes(arrays["codes"], num_rows=len(over), dim=index.dim)
        return index

    def kept(self) -> dict[str, np.ndarray] | None:
        """The codes; None while search is exact."""
        codes = self.to_bytes()
        return {"codes": codes} if len(codes) else None

    @classmethod
    def check(cls, *, dim: int, factory: str = "auto") -> None:
        """Raises `BadOption` for a factory string that faiss does not take for this dimension."""
        make_codes(factory, dim=dim)

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int, factory: str = "auto") -> int:
        """Half a byte per 4 dimensions, as "auto" takes, from `EXACT_BELOW` rows on."""
        return 0 if num_rows < EXACT_BELOW else dim // 8

    def to_bytes(self) -> np.ndarray:
        """The codes alone as (B,) uint8, for `read_codes`; empty while search is exact. Rows and
        ids are the owner's to keep."""
        self._drop_removed()
        self.build()
        if self._codes is None:
            return np.empty(0, np.uint8)
        return np.asarray(_faiss().serialize_index(self._codes), dtype=np.uint8)

    @property
    def num_vectors(self) -> int:
        return int(np.count_nonzero(self._is_there))

    @property
    def dim(self) -> int:
        """0 while empty and not told."""
        return self._flat.dim

    @property
    def is_exact(self) -> bool:
        """Whether searches look at every row: there are no codes yet."""
        return self._codes is None

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,). Raises as `FlatIndex.add` does."""
        num_parts = len(self._flat.parts)
        self._flat.add(ids, descriptors)
        for new_ids, rows in self._flat.parts[num_parts:]:
            self._append(new_ids, rows)
            if self._codes is not None:
                _add_codes(self._codes, rows)

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored. When a quarter is gone the codes are
        made anew."""
        gone = as_ids(ids)
        self._flat.remove(gone)
        self._is_there &= ~np.isin(self._ids, gone)
        if self.num_vectors < 0.75 * len(self._ids):
            self._drop_removed()

    def build(self) -> None:
        """Make the codes now rather than at the first search; nothing below `exact_below` rows or
        with too few rows to train on."""
        if self._codes is not None or len(self._ids) < max(self._exact_below, 1):
            return
        codes = make_codes(self._factory, dim=self.dim, settings=self._settings)
        if _train(codes, self._reader, num_rows=len(self._ids)):
            for part in self._parts:
                _add_codes(codes, part)
            self._codes = codes

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D), only ids in `allowed` where given; K =
        min(k, rows searched) columns."""
        asked = as_queries(queries, dim=self.dim or None, k=k)
        self.build()
        mask = self._is_there
        if allowed is not None:
            mask = mask & np.isin(self._ids, as_ids(allowed))
        num_searched, num_rows = int(np.count_nonzero(mask)), len(self._ids)
        num_candidates = max(self._rescore or default_rescore(num_rows), 4 * k)
        num_fetched = -(-num_candidates * num_rows // max(num_searched, 1))
        if self._codes is None or num_searched < num_rows // 8 or num_fetched > num_rows // 2:
            return self._flat.search(asked, k=k, allowed=allowed)
        is_filtered = num_searched < num_rows
        enough = max(k, num_candidates // 2) if is_filtered else k
        return self._search_codes(
            asked, k=k, num_fetched=num_fetched, mask=mask if is_filtered else None, enough=enough
        )

    def _search_codes(
        self, queries: np.ndarray, *, k: int, num_fetched: int, mask: np.ndarray | None, enough: int
    ) -> Neighbors:
        """Codes, then rows; queries with fewer than `enough` candidates left are answered
        exactly."""
        ids, similarities = (
            np.empty((len(queries), k), np.int64),
            np.empty((len(queries), k), np.float32),
        )
        _widen(self._codes, num_fetched)
        candidates = self._codes.search(queries, num_fetched)[1]
        poor = []
        for i, query in enumerate(queries):
            positions = np.sort(candidates[i][candidates[i] >= 0])
            positions = positions if mask is None else positions[mask[positions]]
            if len(positions) < enough:
                poor.append(i)
                continue
            values = exact_similarities(query, self._reader.rows(positions))
            ids[i], similarities[i] = best(self._ids[positions], values, k=k)
        if poor:
            allowed = None if mask is None else self._ids[mask]
            ids[poor], similarities[poor] = self._flat.search(queries[poor], k=k, allowed=allowed)
        return Neighbors(ids, similarities)

    def save(self, path: str | Path) -> None:
        """Write ids, rows, codes and options as one .npz, atomically."""
        codes = self.to_bytes()
        options = json.dumps([self._factory, self._rescore, self._settings, self._exact_below])
        rows = np.concatenate(self._parts) if self._parts else np.empty((0, self.dim), np.float32)
        with atomic_write(path) as file:
            np.savez(file, ids=self._ids, descriptors=rows, codes=codes, options=np.array(options))

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index that `save` wrote. Raises `InputError` naming the file."""
        arrays = read_saved(path, names=("ids", "descriptors", "codes", "options"))
        factory, rescore, settings, exact_below = json.loads(str(arrays["options"]))
        if len(arrays["ids"]) == 0:
            dim = arrays["descriptors"].shape[1] or None
            return cls(
                factory=factory,
                rescore=rescore,
                settings=settings,
                exact_below=exact_below,
                dim=dim,
            )
        rows, ids = arrays["descriptors"], arrays["ids"]
        index = cls.over(
            rows,
            ids=ids,
            factory=factory,
            rescore=rescore,
            settings=settings,
            exact_below=exact_below,
        )
        if len(arrays["codes"]):
            index._codes = read_codes(
                arrays["codes"], num_rows=len(rows), dim=index.dim, settings=settings
            )
        return index

    def _append(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self._ids = np.concatenate([self._ids, ids])
        self._is_there = np.concatenate([self._is_there, np.ones(len(ids), bool)])
        self._parts.append(rows)
        self._reader = RowReader(self._parts)

    def _drop_removed(self) -> None:
        """Forget removed rows; the codes keep what they learned and are filled again."""
        if self._is_there.all():
            return
        kept = [(ids, rows) for ids, rows in self._flat.parts if len(ids)]
        flat = FlatIndex(dim=self.dim)
        self._ids, self._is_there, self._parts = np.empty(0, np.int64), np.empty(0, bool), []
        self._reader = RowReader([])
        if self._codes is not None:
            self._codes.reset()
        for ids, rows in kept:
            flat.add(ids, rows)
            self._append(ids, flat.parts[-1][1])
            if self._codes is not None:
                _add_codes(self._codes, rows)
        self._flat = flat


def default_rescore(num_rows: int) -> int:
    """Candidates per query that keep recall@10 above 0.99 on hard queries: 1200 at a million rows,
    growing with the cube root."""
    return int(np.clip(1200 * (num_rows / 1e6) ** (1 / 3), 100, 8000))


def make_codes(factory: str, *, dim: int, settings: str = "") -> Any:
    """An empty faiss index for the inner product. Raises `BadOption` naming the string that faiss
    does not take."""
    faiss = _faiss()
    text = _auto(dim) if factory == "auto" else factory
    codes = _refused(
        lambda: faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT),
        what=f"{factory!r} for {dim} dimensions",
    )
    inverted = _inverted_lists(codes)
    if inverted is not None:
        inverted.nprobe = max(1, inverted.nlist // 8)
    return _with_settings(codes, settings)


def _auto(dim: int) -> str:
    """4-bit product quantiser with one code per 4 dimensions, scanned in registers; other
    dimensions are padded with zeros."""
    num_codes = -(-dim // 4)
    return f"PQ{num_codes}x4fs" if dim % 4 == 0 else f"Pad{4 * num_codes},PQ{num_codes}x4fs"


def _refused(call: Callable[[], Any], *, what: str) -> Any:
    try:
        return call()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).rpartition(": ")[2].strip() or str(error)
        raise BadOption(
            f"faiss does not take {what} ({reason}); try 'auto', 'PQ64x4fs', 'SQ8', 'HNSW32' or "
            "'IVF1024,PQ64x4fs'"
        ) from error


def _with_settings(codes: Any, settings: str) -> Any:
    if settings:
        _refused(
            lambda: _faiss().ParameterSpace().set_index_parameters(codes, settings),
            what=f"the settings {settings!r}",
        )
    return codes


def _inverted_lists(codes: Any) -> Any:
    try:
        return _faiss().extract_index_ivf(codes)
    except RuntimeError:
        return None


def _widen(codes: Any, num_fetched: int) -> None:
    """A graph returns no more candidates than its search list is long."""
    graph = getattr(_faiss().downcast_index(codes), "hnsw", None)
    if graph is not None:
        graph.efSearch = max(graph.efSearch, num_fetched)


def _train(codes: Any, reader: RowReader, *, num_rows: int) -> bool:
    """Train on a seeded sample; False where there are too few rows for it."""
    inverted = _inverted_lists(codes)
    wanted = max(TRAIN_ROWS, 0 if inverted is None else TRAIN_ROWS_PER_LIST * inverted.nlist)
    chosen = np.sort(
        random_stream(0, num_rows).choice(num_rows, size=min(wanted, num_rows), replace=False)
    )
    try:
        codes.train(reader.rows(chosen))
    except RuntimeError as error:
        # Principal components need as many rows as dimensions, clusterings one row per centroid.
        if "training points" in str(error) or num_rows < 2 * codes.d:
            return False
        raise BadOption(f"faiss cannot train these codes ({error})") from error
    return True


def _add_codes(codes: Any, rows: np.ndarray) -> None:
    for start in range(0, len(rows), ADD_ROWS):
        codes.add(np.ascontiguousarray(rows[start : start + ADD_ROWS], dtype=np.float32))


def read_codes(data: np.ndarray, *, num_rows: int, dim: int, settings: str = "") -> Any:
    """The faiss index that was serialised as `data` (B,) uint8. Raises `InputError` where it is not
    one of such rows."""
    try:
        codes = _faiss().deserialize_index(np.ascontiguousarray(data, dtype=np.uint8))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError("the codes of the index are damaged; build the index again") from error
    if (codes.ntotal, codes.d) != (num_rows, dim):
        raise InputError(
            f"codes of {codes.ntotal} rows of {codes.d} do not belong to {num_rows} rows of "
            f"{dim}; build the index again"
        )
    return _with_settings(codes, settings)


def _faiss() -> Any:
    import faiss

    return faiss
