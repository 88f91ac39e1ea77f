"""Descriptors of the photos of an evaluation set, in memory or in a work folder that a second run goes on from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.errors import UnreadableImage
from whence.index.store import Store
from whence.localize.build import build_from_photos
from whence.localize.rerank import PreparedPhotos, RerankOptions
from whence.models.descriptor import DescriptorModel
from whence.models.views import QueryViews
from whence.runtime import progress
from whence.settings import BuildOptions
from whence.types import SkippedPhoto


class SetDescriber:
    """Descriptors of database and queries, in memory or in a work folder."""

    def __init__(
        self, model: DescriptorModel, work: Path | None, show_progress: bool | None, rerank: RerankOptions | None = None
    ) -> None:
        self.model, self.work, self.show_progress = model, work, show_progress
        self.prepared = None if rerank is None else PreparedPhotos.for_model(rerank, model, Photos.of([]))
        self.keep_local = self.prepared is not None and self.prepared.is_shared
        self.local: dict[str, Mapping[str, np.ndarray]] = {}
        """Local descriptors by content, where re-ranking wants them and no work folder keeps them."""
        self.crops: dict[int, np.ndarray] = {}
        """(C, D) descriptors of a query's crops by its row, in the query modes that search for each."""
        self.vocabulary = "none"
        self.skipped: list[SkippedPhoto] = []
        self.seconds: dict[str, float] = {}
        self.spent_s: dict[str, np.ndarray] = {}
        """Wall-clock seconds of each photo's description, by what was described; NaN where a work folder had it."""

    def describe(self, photos: Photos, what: str, *, views: QueryViews | None = None) -> np.ndarray:
        """Descriptors (N, D) of the photos, NaN rows where one cannot be read."""
        started = time.perf_counter()
        self.skipped += photos.skipped
        if self.work is None or views is not None:
            descriptors = self._in_memory(photos, what, views)
        else:
            descriptors = self._in_store(photos, self.work / f"{what}.whence")
        self.seconds[f"describe {what}"] = time.perf_counter() - started
        return descriptors

    def _in_memory(self, photos: Photos, what: str, views: QueryViews | None) -> np.ndarray:
        if not self.model.is_fitted:
            _, rows = np.unique(photos.content, return_index=True)
            self.vocabulary = self.model.prepare([photos.file(int(row)) for row in rows])
        descriptors = np.full((len(photos), self.model.dim), np.nan, np.float32)
        spent = self.spent_s[what] = np.full(len(photos), np.nan)
        files = (photos.file(i) for i in range(len(photos)))
        started = time.perf_counter()
        with progress(f"describing {what}", total=len(photos), show=self.show_progress) as advance:
            keep_local = self.keep_local and views is None
            for row, result in enumerate(self.model.describe_each(files, keep_local=keep_local, views=views)):
                if isinstance(result, UnreadableImage):
                    self.skipped.append(SkippedPhoto(photos.paths[row], result.reason))
                else:
                    descriptors[row] = result.descriptor
                    if result.crops is not None:
                        self.crops[row] = result.crops
                    if result.local is not None:
                        self.local[photos.columns["content"][row].decode()] = result.local
                spent[row], started = time.perf_counter() - started, time.perf_counter()
                advance(1)
        return descriptors

    def _in_store(self, photos: Photos, path: Path) -> np.ndarray:
        options = BuildOptions(keep_local=self.keep_local)
        report = build_from_photos(photos, path=path, model=self.model, options=options, show_progress=self.show_progress)
        self.vocabulary = self.vocabulary if report.vocabulary == "given" else report.vocabulary
        self.skipped += [entry for entry in report.skipped if entry not in self.skipped]
        descriptors = np.full((len(photos), self.model.dim), np.nan, np.float32)
        with Store.open(path) as store:
            row_of = {content: row for row, content in enumerate(store.contents.tolist())}
            rows = np.array([row_of.get(content, -1) for content in photos.content.tolist()], np.int64)
            descriptors[rows >= 0] = store.descriptors[rows[rows >= 0]]
        return descriptors
