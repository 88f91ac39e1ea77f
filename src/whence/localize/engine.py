"""Which search engine a database uses, and where its compact codes lie: built after each change, loaded on opening."""

from __future__ import annotations

import numpy as np

from whence.index.ann import AnnIndex, choose_factory
from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.types import Index

ENGINE_BLOB = "engine"


def write_engine(store: Store, *, engine: str) -> None:
    """Build the compact codes of the database's engine and keep them in it; nothing where search is exact."""
    factory = choose_factory(store.num_descriptors, store.dim, engine=engine)
    if factory is None:
        store.delete_blob(ENGINE_BLOB)
        return
    index = AnnIndex.over(store.descriptors, factory=factory)
    header = {"rows_id": np.array(store.rows_id), "factory": np.array(factory)}
    store.write_blob(ENGINE_BLOB, {**header, "codes": index.to_bytes()})


def open_engine(store: Store) -> Index:
    """The engine of an open database. Codes that are out of date (a killed run) are left aside: search is then exact."""
    kept = store.read_blob(ENGINE_BLOB)
    if kept is not None and str(kept["rows_id"]) == store.rows_id:
        return AnnIndex.from_bytes(kept["codes"], rows=store.descriptors)
    return FlatIndex.over(store.descriptors)
