"""The search engines by name. Data only, and the rules for names with a number in them and for
faiss factory strings."""

from __future__ import annotations

import re

from whence.cards import Entry

PLAIN_WORD = re.compile(r"[a-z][a-z0-9_-]*")

ENTRIES: dict[str, Entry] = {
    "auto": Entry("whence.index.ann:AnnIndex"),
    "flat": Entry("whence.index.flat:FlatIndex"),
    "int8": Entry("whence.index.int8:Int8Index"),
    "cells": Entry("whence.index.cells.engine:CellIndex"),
}
"""What the registry takes over; classes derived from `whence.index.vectors.Engine`."""
_SERVERS = {
    "milvus": "whence.index.milvus:MilvusIndex",
    "postgresql": "whence.index.postgres:PostgresIndex",
}


def entry_of_factory(name: str) -> Entry | None:
    """The engine of "cells:20", 20 best cells, of an address, as "milvus://host/collection", or of
    a faiss factory string, as "IVF1024,PQ64x4fs"; None for plain words in small letters, which are
    names.
    """
    if found := re.match(r"(milvus|postgresql)://", name):
        return Entry(_SERVERS[found[1]], options={"address": name})
    if found := re.fullmatch(r"cells:(\d+)", name, re.ASCII):
        return Entry("whence.index.cells.engine:CellIndex", options={"num_cells": int(found[1])})
    return (
        None
        if PLAIN_WORD.fullmatch(name)
        else Entry("whence.index.ann:AnnIndex", options={"factory": name})
    )
