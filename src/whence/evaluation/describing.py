"""Descriptors of the photos of an evaluation set, in memory or in a work folder that a second run
goes on from."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.errors import UnreadableImage
from whence.index.store import Store
from whence.localize.build import build_from_photos
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.models.asking import QueryViews, Question
from whence.models.descriptor import DescriptorModel
from whence.runtime import progress
from whence.settings import BuildOptions
from whence.types import SkippedPhoto

BLOCK_ROWS = 4096
"""Rows that are looked at together where there may be more than fit into memory."""


class SetDescriber:
    """Descriptors of database and queries, in memory or in a work folder."""

    def __init__(
        self,
        model: DescriptorModel,
        work: Path | None,
        show_progress: bool | None,
        rerank: RerankOptions | None = None,
        *,
        is_frugal: bool = False,
    ) -> None:
        self.model, self.work, self.show_progress, self.is_frugal = (
            model,
            work,
            show_progress,
            is_frugal,
        )
        self.material = (
            None if rerank is None else PreparedPhotos.for_model(rerank, model, Photos.of([]))
        )
        self.keep_local = self.material is not None and self.material.is_shared
        self.local: dict[str, Mapping[str, np.ndarray]] = {}
        """Local descriptors by content, where re-ranking wants them and no work folder keeps
        them."""
        self.questions: dict[int, Question] = {}
        """What queries ask with, by their rows; those that are not in it ask with their
        descriptor."""
        self.vocabulary = "none"
        self.skipped: list[SkippedPhoto] = []
        self.num_described = 0
        """Photos of the last call that were looked at before the user stopped it: all, where nobody
        did."""
        self.seconds: dict[str, float] = {}
        self.spent_s: dict[str, np.ndarray] = {}
        """Wall-clock seconds of each photo's description, by what was described; NaN where a work
        folder had it."""

    def describe(self, photos: Photos, what: str) -> np.ndarray:
        """Descriptors (N, D) of database photos, NaN rows where one cannot be read."""
        return self._describe(photos, what, self.model, None)

    def ask(self, photos: Photos, *, views: QueryViews | None = None) -> np.ndarray:
        """Descriptors (N, D) of queries, as `describe`; what each asks with is in `questions` where
        it is more than that."""
        return self._describe(photos, "queries", self.model.query_model, views)

    def _describe(
        self, photos: Photos, what: str, model: DescriptorModel, views: QueryViews | None
    ) -> np.ndarray:
        started = time.perf_counter()
        self.num_described = len(photos)
        self.skipped += photos.skipped
        if self.work is None or views is not None:
            descriptors = self._in_memory(photos, what, model, views)
        else:
            descriptors = self._in_store(photos, self.work / f"{what}.whence", model)
        self.seconds[f"describe {what}"] = time.perf_counter() - started
        return descriptors

    def _in_memory(
        self, photos: Photos, what: str, model: DescriptorModel, views: QueryViews | None
    ) -> np.ndarray:
        if not model.is_fitted:
            _, rows = np.unique(photos.content, return_index=True)
            self.vocabulary = model.prepare([photos.file(int(row)) for row in rows])
        descriptors = self._blank(len(photos))
        spent = self.spent_s[what] = np.full(len(photos), np.nan)
        files = (photos.file(i) for i in range(len(photos)))
        started, num_done = time.perf_counter(), 0
        try:
            with progress(
                f"describing {what}", total=len(photos), show=self.show_progress
            ) as advance:
                keep_local = self.keep_local and views is None and model is self.model
                for row, result in enumerate(
                    model.describe_each(files, keep_local=keep_local, views=views)
                ):
                    if isinstance(result, UnreadableImage):
                        self.skipped.append(SkippedPhoto(photos.paths[row], result.reason))
                    else:
                        descriptors[row] = result.descriptor
                        if result.own_question is not None:
                            self.questions[row] = result.own_question
                        if result.local is not None:
                            self.local[photos.columns["content"][row].decode()] = result.local
                    spent[row], started = time.perf_counter() - started, time.perf_counter()
                    num_done = row + 1
                    advance(1)
        except KeyboardInterrupt:
            self.num_described = num_done
        return descriptors

    def _in_store(self, photos: Photos, path: Path, model: DescriptorModel) -> np.ndarray:
        options = BuildOptions(keep_local=self.keep_local and model is self.model)
        report = build_from_photos(
            photos, path=path, model=model, options=options, show_progress=self.show_progress
        )
        self.vocabulary = self.vocabulary if report.vocabulary == "given" else report.vocabulary
        self.skipped += [entry for entry in report.skipped if entry not in self.skipped]
        descriptors = self._blank(len(photos))
        with Store.open(path) as store:
            row_of = {content: row for row, content in enumerate(store.contents.tolist())}
            rows = np.array(
                [row_of.get(content, -1) for content in photos.content.tolist()], np.int64
            )
            known = np.flatnonzero(rows >= 0)
            for start in range(0, len(known), BLOCK_ROWS):
                block = known[start : start + BLOCK_ROWS]
                descriptors[block] = store.descriptors[rows[block]]
        return descriptors

    def _blank(self, num_photos: int) -> np.ndarray:
        """Descriptors (N, D) that are all NaN; where memory is to be saved, in a file without a
        name that goes with the array."""
        shape = (num_photos, self.model.dim)
        if not self.is_frugal or not num_photos:
            return np.full(shape, np.nan, np.float32)
        with tempfile.TemporaryFile(dir=self.work) as file:
            blank = np.memmap(file, np.float32, "w+", shape=shape)
        for start in range(0, num_photos, BLOCK_ROWS):
            blank[start : start + BLOCK_ROWS] = np.nan
        return blank


def finite_rows(matrix: np.ndarray) -> np.ndarray:
    """(N,) bool: rows (N, D) without NaN, a block at a time."""
    blocks = [
        np.isfinite(matrix[start : start + BLOCK_ROWS]).all(axis=1)
        for start in range(0, len(matrix), BLOCK_ROWS)
    ]
    return np.concatenate([np.empty(0, bool), *blocks])
