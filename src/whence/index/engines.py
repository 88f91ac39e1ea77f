"""The search engines by name. Data only."""

from __future__ import annotations

from whence.cards import Entry

ENTRIES: dict[str, Entry] = {
    "flat": Entry("whence.index.flat:FlatIndex"),
    "int8": Entry("whence.index.int8:Int8Index"),
    "ann": Entry("whence.index.ann:AnnIndex"),
}
"""What the registry takes over."""
