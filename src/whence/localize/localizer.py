"""`Localizer`: a database of photos that can be asked where a photo was taken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from whence.data.photos import Photos
from whence.errors import UnreadableImage
from whence.index.store import Store
from whence.localize.build import STATE_BLOB, BuildReport, build_database, finish_refit
from whence.localize.engine import open_engine
from whence.localize.maintain import refresh_database
from whence.localize.position import estimate_position
from whence.localize.retrieve import Around, Retriever
from whence.models.descriptor import DescriptorModel, load_model
from whence.runtime import progress
from whence.settings import BuildOptions
from whence.types import Candidate, Position


class Localizer:
    """Answers *where was this photo taken?* from a database folder.

    >>> localizer = Localizer.build("photos/", path="city.whence")      # doctest: +SKIP
    >>> localizer.locate("where.jpg", k=20).point                       # doctest: +SKIP
    """

    def __init__(self, store: Store, model: DescriptorModel) -> None:
        self.store = store
        self.model = model
        self.retriever = Retriever(store.photos, store.descriptor_rows, open_engine(store))
        self.report: BuildReport | None = None
        """What `build` or `refresh` did, where this localizer came from one."""

    @classmethod
    def build(
        cls,
        *sources: str | Path,
        path: str | Path,
        options: BuildOptions | None = None,
        positions: str | Path | None = None,
        show_progress: bool | None = None,
    ) -> Localizer:
        """Make or extend the database at `path` with the photos under `sources` and open it; see `build_database`."""
        report = build_database(sources, path=path, options=options, positions=positions, show_progress=show_progress)
        localizer = cls.open(path)
        localizer.report = report
        return localizer

    @classmethod
    def open(cls, path: str | Path) -> Localizer:
        """Open an existing database. Raises `NotAStore`, `CorruptStore`, `StoreVersion`, and `UnknownName` for its model."""
        folder = Path(path)
        finish_refit(folder)
        store = Store.open(folder)
        build = store.options.get("build", {})
        model = load_model(build.get("model", store.card_id.rpartition(".v")[0]), options=build.get("model_options", {}))
        state = store.read_blob(STATE_BLOB)
        if state is not None:
            model.descriptor.load_state(state)
        return cls(store, model)

    @classmethod
    def refresh(cls, path: str | Path, *, show_progress: bool | None = None) -> Localizer:
        """Bring the database up to date with the folders it was made from and open it; see `refresh_database`."""
        report = refresh_database(path, show_progress=show_progress)
        localizer = cls.open(path)
        localizer.report = report
        return localizer

    @property
    def photos(self) -> Photos:
        """The database's photos."""
        return self.retriever.photos

    def locate(self, query: str | Path | bytes | np.ndarray, *, k: int = 20, around: Around | None = None) -> Position:
        """Where the photo was taken, with the `k` best candidates. `query` is a file, its bytes, or RGB pixels (H, W, 3) uint8.

        Raises `UnreadableImage` for a file that cannot be read.
        """
        started = time.perf_counter()
        descriptors = self.model.describe([query])
        described = time.perf_counter()
        candidates = self.retriever.retrieve(descriptors, k=k, around=around)[0]
        seconds = {"describe": described - started, "search": time.perf_counter() - described}
        name = str(query) if isinstance(query, str | Path) else "<image>"
        return _answer(name, candidates, seconds)

    def locate_many(
        self,
        queries: Sequence[str | Path],
        *,
        k: int = 20,
        around: Around | None = None,
        show_progress: bool | None = None,
    ) -> Iterator[Position]:
        """One position per query file, in order; a file that cannot be read gives status `unknown` and the reason."""
        with progress("locating photos", total=len(queries), show=show_progress) as advance:
            started = time.perf_counter()
            for query, result in zip(queries, self.model.describe_each(queries), strict=True):
                described = time.perf_counter()
                if isinstance(result, UnreadableImage):
                    yield Position(str(query), "unknown", reason=str(result))
                else:
                    candidates = self.retriever.retrieve(result.descriptor[None], k=k, around=around)[0]
                    seconds = {"describe": described - started, "search": time.perf_counter() - described}
                    yield _answer(str(query), candidates, seconds)
                advance(1)
                started = time.perf_counter()

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def files_of(self, candidates: Iterable[Candidate]) -> tuple[Path, ...]:
        """Where the photos of candidates lie on this machine."""
        return tuple(self.photos.file(candidate.row) for candidate in candidates)


def _answer(query: str, candidates: tuple[Candidate, ...], seconds: dict[str, float]) -> Position:
    estimate = estimate_position(candidates)
    return Position(
        query=query,
        status=estimate.status,
        point=estimate.point,
        heading_deg=estimate.heading_deg,
        candidates=candidates,
        seconds=seconds,
        reason="" if candidates else "no photo of the database may be searched",
    )
