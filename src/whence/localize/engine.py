"""Which search engine a database uses, and where its compact codes lie: built after each change, loaded on opening."""

from __future__ import annotations

import numpy as np

from whence.index.ann import EXACT_BELOW, AnnIndex, make_codes
from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.index.vectors import Index

ENGINE_BLOB = "engine"
FLAT = "flat"


def check_engine(engine: str, *, dim: int) -> None:
    """Raises `BadOption` for a name that is neither "flat" nor "auto" nor a factory string faiss takes."""
    if engine != FLAT:
        make_codes(engine, dim=dim)


def code_bytes(num_descriptors: int, dim: int, *, engine: str) -> int:
    """Bytes per photo that the engine's codes take, for estimates: half a byte per 4 dimensions unless search is exact."""
    return 0 if engine == FLAT or num_descriptors < EXACT_BELOW else dim // 8


def write_engine(store: Store, *, engine: str) -> None:
    """Build the compact codes of the database's engine and keep them in it; nothing where search is exact."""
    codes = np.empty(0, np.uint8)
    if engine != FLAT and store.num_descriptors >= EXACT_BELOW:
        codes = AnnIndex.over(store.descriptors, factory=engine, exact_below=EXACT_BELOW).to_bytes()
    if len(codes):
        store.write_blob(ENGINE_BLOB, {"rows_id": np.array(store.rows_id), "codes": codes})
    else:
        store.delete_blob(ENGINE_BLOB)


def open_engine(store: Store) -> Index:
    """The engine of an open database. Codes that are out of date (a killed run) are left aside: search is then exact."""
    kept = store.read_blob(ENGINE_BLOB)
    if kept is not None and str(kept["rows_id"]) == store.rows_id:
        return AnnIndex.from_bytes(kept["codes"], over=store.descriptors)
    return FlatIndex.over(store.descriptors)
