"""Keeping in a database what a scorer prepares of its photos, so that re-ranking need not read them
again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.errors import UnreadableImage
from whence.index.store import Store
from whence.localize.localizer import Localizer
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.models.descriptor import read_as
from whence.runtime import in_batches, map_threads, progress, told_when_stopped
from whence.types import Arrays, SkippedPhoto

COMMIT_PHOTOS = 64
"""Photos prepared between two commits: what a killed run loses."""


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What a run did."""

    path: str
    scorer: str
    num_prepared: int
    num_known: int
    """Photos that were prepared before."""
    skipped: tuple[SkippedPhoto, ...]
    size_bytes: int
    """Of the database folder afterwards."""
    seconds: float


def prepare_photos(
    path: str | Path, *, options: RerankOptions, show_progress: bool | None = None
) -> PrepareReport:
    """A report of a database's photos, each prepared for the scorer of the options and kept there.
    A stopped run goes on.

    Photos that cannot be read are skipped. Raises as `Localizer.open`, and what making the scorer
    raises.
    """
    if options.stages:
        stages = zip(
            options.stages, PreparedPhotos.for_options(options, Photos.of([])).stages, strict=True
        )
        parts = [
            prepare_photos(path, options=own, show_progress=show_progress)
            for own, stage in stages
            if stage.like is None
        ]
        nums = [
            sum(getattr(part, name) for part in parts)
            for name in ("num_prepared", "num_known", "seconds")
        ]
        skipped_once = tuple(dict.fromkeys(entry for part in parts for entry in part.skipped))
        return PrepareReport(
            str(path), options.scorer, nums[0], nums[1], skipped_once, parts[-1].size_bytes, nums[2]
        )
    started = time.perf_counter()
    with Localizer.open(path) as localizer:
        material = localizer.prepared(options)
    contents, rows = np.unique(material.photos.columns["content"], return_index=True)
    keys = [content.decode() for content in contents.tolist()]
    skipped: list[SkippedPhoto] = []
    num_prepared = 0
    with Store.open(path, writable=True) as store:
        is_known = np.any([store.has_cache(name, keys) for name in material.cache_ids], axis=0)
        pending = np.flatnonzero(~is_known).tolist()
        kept = (
            f"photos prepared until now are kept in {str(path)!r}; run the same command again to "
            "go on"
        )
        with (
            told_when_stopped(kept),
            progress(
                f"preparing photos for {options.scorer}", total=len(pending), show=show_progress
            ) as advance,
        ):
            for batch in in_batches(pending, COMMIT_PHOTOS):
                done: dict[str, Arrays] = {}
                for i, result in zip(
                    batch, _prepare_each(material, [int(rows[i]) for i in batch]), strict=True
                ):
                    if isinstance(result, UnreadableImage):
                        skipped.append(SkippedPhoto(material.photos.paths[rows[i]], result.reason))
                    else:
                        done[keys[i]] = result
                    advance(1)
                store.write_cache(material.cache_ids[0], list(done), list(done.values()))
                num_prepared += len(done)
        size = store.size_bytes
    seconds = time.perf_counter() - started
    return PrepareReport(
        str(path), options.scorer, num_prepared, int(is_known.sum()), tuple(skipped), size, seconds
    )


def _prepare_each(material: PreparedPhotos, rows: list[int]) -> Iterator[Arrays | UnreadableImage]:
    """What the scorer prepares of each photo, or why it cannot be read; photos decode in
    parallel."""

    def read(row: int) -> np.ndarray | UnreadableImage:
        try:
            return read_as(material.photos.file(row), material.card.preprocessing)
        except UnreadableImage as error:
            return error

    for image in map_threads(read, rows):
        yield image if isinstance(image, UnreadableImage) else material.scorer.prepare(image)
