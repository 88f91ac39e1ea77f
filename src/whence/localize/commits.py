"""Described photos on their way into the database: some at a time, each commit whole, by one
writer."""

from __future__ import annotations

import time

import numpy as np

from whence.data.photos import Photos
from whence.index.store import Store
from whence.models.descriptor import Described
from whence.settings import BuildOptions


class PhotoBatch:
    """Described photos waiting for the next commit."""

    def __init__(
        self, store: Store, photos: Photos, *, options: BuildOptions, keeps_local: bool
    ) -> None:
        self.store, self.options, self.photos, self.keeps_local = (
            store,
            options,
            photos,
            keeps_local,
        )
        self.contents: list[bytes] = []
        self.described: list[Described] = []
        self.rows: list[np.ndarray] = []
        self.num_committed = 0
        self.last = time.monotonic()

    def put(self, content: bytes, described: Described, rows: np.ndarray) -> None:
        """Add what was described of a content; `rows` are the photos that have it."""
        self.contents.append(content)
        self.described.append(described)
        self.rows.append(rows)
        is_full = len(self.contents) >= self.options.commit_photos
        if is_full or time.monotonic() - self.last > self.options.commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Write what waits."""
        if self.contents:
            # Local descriptors first: a photo that is in the database then has them, wherever the
            # run is killed.
            if self.keeps_local:
                keys = [content.decode() for content in self.contents]
                self.store.write_cache(
                    f"{self.store.card_id}.local", keys, [one.local or {} for one in self.described]
                )
            photos = self.photos.select(np.concatenate(self.rows))
            descriptors = np.stack([one.descriptor for one in self.described])
            self.store.add(photos, contents=np.array(self.contents, "S32"), descriptors=descriptors)
        self.num_committed += len(self.contents)
        self.contents, self.described, self.rows = [], [], []
        self.last = time.monotonic()
