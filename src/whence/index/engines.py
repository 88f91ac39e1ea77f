"""The search engines by name. Data only, and the rule for names that are faiss factory strings."""

from __future__ import annotations

import re

from whence.cards import Entry

PLAIN_WORD = re.compile(r"[a-z][a-z0-9_-]*")

ENTRIES: dict[str, Entry] = {
    "auto": Entry("whence.index.ann:AnnIndex"),
    "flat": Entry("whence.index.flat:FlatIndex"),
    "int8": Entry("whence.index.int8:Int8Index"),
}
"""What the registry takes over; classes derived from `whence.index.vectors.Engine`."""


def entry_of_factory(name: str) -> Entry | None:
    """The engine of a faiss factory string, as "IVF1024,PQ64x4fs"; None for plain words in small letters, which are names."""
    return None if PLAIN_WORD.fullmatch(name) else Entry("whence.index.ann:AnnIndex", options={"factory": name})
