"""`Localizer`: a database of photos that can be asked where a photo was taken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from whence.data.elsewhere import address_of
from whence.data.images import as_source, content_hash
from whence.data.photos import Photos
from whence.errors import BadOption, CalibrationMismatch, UnreadableImage
from whence.index.cells.engine import CellIndex
from whence.index.store import Store
from whence.localize.build import STATE_BLOB, BuildReport, build_database, finish_refit
from whence.localize.calibration_files import find_calibration, key_of, with_min_confidence
from whence.localize.cells import CellLocalizer
from whence.localize.engine import CELLS_BLOB, open_engine
from whence.localize.judge import Judge
from whence.localize.maintain import refresh_database
from whence.localize.motion import Motion
from whence.localize.otherwise import otherwise_of
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import Around, Retriever
from whence.localize.tracking import Tracker
from whence.localize.unknown import AUTO, NONE, SecondLook, second_options
from whence.models.asking import QueryViews, Rule, ask_as_one
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.runtime import in_batches, progress
from whence.settings import BuildOptions
from whence.types import Calibration, Candidate, Position


@dataclass(frozen=True, slots=True)
class LocateOptions:
    """What happens to the retrieved candidates before an answer is given."""

    rerank: RerankOptions | None = field(default_factory=RerankOptions)
    """None leaves the candidates as retrieved; then nothing can be verified either."""
    is_verified: bool = True
    """Whether an answer is given only where the first candidate is the place with a calibrated
    probability. Where nothing calibrated the evidence the best match is given all the same, as not
    verified."""
    calibration: Path | None = None
    """A calibration file instead of the database's own or the packaged one."""
    min_confidence: float | None = None
    """Probability from which an answer is given; None for the calibration's."""
    views: QueryViews | None = None
    """How queries are looked at; None as the model's card says."""
    when_unknown: str = AUTO
    """What is asked about photos that the evidence leaves unknown: SCORER or SCORER:N, which
    compares the first N candidates; "auto" for `aliked-lightglue` where its packages and weights
    are on this machine; "none"."""

    def __post_init__(self) -> None:
        if self.is_verified and self.rerank is None:
            raise BadOption(
                "verification needs the evidence of re-ranking: name a scorer, or do not verify"
            )
        if self.when_unknown in (AUTO, NONE):
            return
        if self.rerank is None or not self.is_verified:
            raise BadOption(
                "nothing is unknown without verification: asking again goes with it alone"
            )
        second_options(self.when_unknown, self.rerank)

    @property
    def needs_calibration(self) -> bool:
        """Whether something was asked for that only a calibration can give."""
        is_early = self.rerank is not None and self.rerank.when_unsure is not None
        return is_early or self.calibration is not None or self.min_confidence is not None


RETRIEVE_ONLY = LocateOptions(rerank=None, is_verified=False)
"""The best match by descriptors, whether or not it is the place."""
LOCATING = "locating photos"
"""The name of this work on progress bars."""


class Localizer:
    """Answers *where was this photo taken?* from a database folder.

    >>> localizer = Localizer.build("photos/", path="city.whence")      # doctest: +SKIP
    >>> localizer.locate("where.jpg", k=20).point                       # doctest: +SKIP
    """

    def __init__(self, store: Store, model: DescriptorModel) -> None:
        self.store = store
        self.model = model
        self.retriever = Retriever(store.photos, store.descriptor_rows, open_engine(store))
        self._materials: list[tuple[RerankOptions, PreparedPhotos]] = []
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
        """A localizer of the database at `path`, made or extended with the photos under `sources`;
        see `build_database`."""
        report = build_database(
            sources, path=path, options=options, positions=positions, show_progress=show_progress
        )
        localizer = cls.open(path)
        localizer.report = report
        return localizer

    @classmethod
    def open(cls, path: str | Path) -> Localizer:
        """A localizer of an existing database. Raises `NotAStore`, `CorruptStore`, `StoreVersion`,
        and `UnknownName` for its model."""
        folder = Path(path)
        finish_refit(folder)
        store = Store.open(folder)
        build = store.options.get("build", {})
        model = load_model(
            build.get("model", store.card_id.rpartition(".v")[0]),
            options=build.get("model_options", {}),
        )
        state = store.read_blob(STATE_BLOB)
        if state is not None:
            model.descriptor.load_state(state)
        return cls(store, model)

    @classmethod
    def refresh(cls, path: str | Path, *, show_progress: bool | None = None) -> Localizer:
        """A localizer of the database, brought up to date with the folders it was made from; see
        `refresh_database`."""
        report = refresh_database(path, show_progress=show_progress)
        localizer = cls.open(path)
        localizer.report = report
        return localizer

    @property
    def photos(self) -> Photos:
        """The database's photos."""
        return self.retriever.photos

    def locate(
        self,
        query: str | Path | bytes | np.ndarray | Image.Image,
        *,
        k: int = 20,
        around: Around | None = None,
        options: LocateOptions | None = None,
    ) -> Position:
        """Where the photo was taken, with the `k` best candidates. `query` is a file, its bytes,
        pixels uint8 (RGB, RGBA or grey), or a picture of Pillow.

        By default the candidates are compared with the query and the answer is `unknown` unless the
        best one is the place with a calibrated probability; `RETRIEVE_ONLY` takes the best match as
        it is. Raises `UnreadableImage` for a file that cannot be read, and `CalibrationMismatch` as
        `judge` does.
        """
        judge = self.judge(options)
        started = time.perf_counter()
        source = as_source(query)
        result = next(judge.describe([source]))
        if isinstance(result, UnreadableImage):
            raise result
        name = address_of(query) if isinstance(query, str | Path) else "<image>"
        content = "" if isinstance(source, np.ndarray) else content_hash(source)
        seconds = {"describe": time.perf_counter() - started}
        return judge.answer(
            name, result, k=k, around=around, seconds=seconds, content=content, source=source
        )

    def locate_frames(
        self,
        frames: Sequence[str | Path | bytes | np.ndarray | Image.Image],
        *,
        k: int = 20,
        around: Around | None = None,
        options: LocateOptions | None = None,
        rule: Rule = "unit mean",
    ) -> Position:
        """Where several photos of one place were taken that ask as one, as the frames of a
        sequence; as `locate` otherwise.

        `rule`: "unit mean" asks with the mean of their descriptors, brought to unit length, "best"
        with all of them, and the best similarity of a database photo counts. The frame in the
        middle stands for them where candidates are compared, and names the answer. Frames that
        cannot be read are passed over. Raises `UnreadableImage` where none can, `BadOption` for no
        frames.
        """
        judge = self.judge(options)
        started = time.perf_counter()
        results = list(judge.describe([as_source(frame) for frame in frames]))
        readable = [
            i for i, result in enumerate(results) if not isinstance(result, UnreadableImage)
        ]
        if results and not readable:
            raise next(result for result in results if isinstance(result, UnreadableImage))
        described = [result for result in results if not isinstance(result, UnreadableImage)]
        question = ask_as_one([one.question for one in described], rule)
        middle = len(readable) // 2
        asked = Described(question.descriptor, described[middle].local, question)
        frame = frames[readable[middle]]
        seconds, source = {"describe": time.perf_counter() - started}, as_source(frame)
        name = str(frame) if isinstance(frame, str | Path) else "<frames>"
        return judge.answer(name, asked, k=k, around=around, seconds=seconds, source=source)

    def track(
        self,
        *,
        length: int = 5,
        ahead: int | None = None,
        k: int = 20,
        around: Around | None = None,
        options: LocateOptions | None = None,
        motion: Motion | None = Motion(),  # noqa: B008 (an immutable record)
    ) -> Tracker:
        """A tracker that takes the frames of a drive one by one and says where each was taken, at
        bounded memory; see `Tracker`.

        For live use `ahead=0` waits for no later frame.
        """
        return Tracker(
            self.judge(options), length=length, ahead=ahead, k=k, around=around, motion=motion
        )

    def locate_many(
        self,
        queries: Sequence[str | Path],
        *,
        k: int = 20,
        around: Around | None = None,
        options: LocateOptions | None = None,
        show_progress: bool | None = None,
    ) -> Iterator[Position]:
        """One position per query file, in order; a file that cannot be read gives status `unknown`
        and the reason."""
        judge = self.judge(options)
        with progress(LOCATING, total=len(queries), show=show_progress) as advance:
            for batch in in_batches(queries, self.model.batch_size):
                started = time.perf_counter()
                described = list(judge.describe(batch))
                # Photos of a batch are described together: each is said to have taken its share.
                share = (time.perf_counter() - started) / len(batch)
                for query, result in zip(batch, described, strict=True):
                    name = address_of(query)
                    if isinstance(result, UnreadableImage):
                        yield Position(name, "unknown", reason=str(result))
                    else:
                        seconds, content = {"describe": share}, content_hash(query)
                        yield judge.answer(
                            name,
                            result,
                            k=k,
                            around=around,
                            seconds=seconds,
                            content=content,
                            source=query,
                        )
                    advance(1)

    @cached_property
    def cells(self) -> CellLocalizer | None:
        """The localizer that tells places by cells alone: the classifier that the database was
        given, else its engine's own; None without."""
        return CellLocalizer.of_database(self.store, self.model, self.retriever.index)

    def prepared(self, options: RerankOptions) -> PreparedPhotos:
        """Prepared photos of the database, for the scorer of the options."""
        for own, material in self._materials:
            if (own.scorer, own.scorer_options) == (options.scorer, options.scorer_options):
                return material
        made = PreparedPhotos.for_model(options, self.model, self.photos, store=self.store)
        self._materials.append((options, made))
        return made

    def judge(self, options: LocateOptions | None = None) -> Judge:
        """The stages after description, as `locate` runs them.

        Where nothing calibrated the evidence the answers are not verified, and say why. Raises
        `CalibrationMismatch` for a calibration file of other settings, for a least confidence
        without a calibration, and where comparing is to end early without one.
        """
        options = options or LocateOptions()
        # Means of a database's own cells are asked by its engine.
        has_given = CELLS_BLOB in self.store.blob_names and isinstance(
            self.retriever.index, CellIndex
        )
        cells = self.cells if has_given else None
        if options.rerank is None:
            return Judge(self.model, self.retriever, views=options.views, cells=cells)
        material, found, reason = self.prepared(options.rerank), None, ""
        if options.is_verified or options.rerank.when_unsure is not None:
            try:
                key = key_of(self.model.card.card_id, material)
                found = find_calibration(key, store=self.store, file=options.calibration)
            except CalibrationMismatch as error:
                if options.needs_calibration:
                    raise
                reason = f"not verified: {error}"
        calibration = (
            with_min_confidence(found, options.min_confidence)
            if found is not None and options.is_verified
            else None
        )
        return Judge(
            self.model,
            self.retriever,
            options.rerank,
            material,
            calibration,
            reason,
            options.views,
            found,
            None if calibration is None else self._second_look(options),
            otherwise_of(options.rerank, self.prepared),
            cells,
        )

    def _second_look(self, options: LocateOptions) -> SecondLook | None:
        """What is asked about unknown photos. What was asked for by name is opened now, so that it
        fails now."""
        assert options.rerank is not None, "only what was compared is verified"
        chosen = second_options(options.when_unknown, options.rerank)
        if chosen is None:
            return None

        def find(material: PreparedPhotos) -> Calibration:
            found = find_calibration(key_of(self.model.card.card_id, material), store=self.store)
            return with_min_confidence(found, options.min_confidence)

        look = SecondLook(chosen, self.prepared, find)
        if options.when_unknown != AUTO:
            look.open()
        return look

    def __repr__(self) -> str:
        return (
            f"<Localizer of {str(self.store.path)!r}: {len(self.photos)} photos, described by "
            f"{self.model.name}>"
        )

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def files_of(self, candidates: Iterable[Candidate]) -> tuple[Path, ...]:
        """Where the photos of candidates lie on this machine."""
        return tuple(self.photos.file(candidate.row) for candidate in candidates)
