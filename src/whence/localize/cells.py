"""`CellLocalizer`: places from the cells of a map alone, without any photo of them, and the photos
that are worth a search."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.errors import BadOption, CardMismatch, InputError, NotFitted, UnreadableImage
from whence.index.cells.classifier import CellClassifier, read_cells
from whence.index.cells.engine import CellIndex
from whence.index.store import Store
from whence.index.vectors import Index
from whence.localize.build import is_begun, open_or_create
from whence.localize.engine import CELLS_BLOB, stored_cells, write_engine
from whence.localize.retrieve import Around
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.runtime import in_batches, progress
from whence.settings import BuildOptions
from whence.types import Candidate, PhotoSource, Position, PositionStatus

ENGINE = "cells"
NO_CELLS = (
    "it has no cells to tell a place by: give it learned ones, whence index --cells FILE, or make "
    "it with --engine cells of photos with places"
)


class CellLocalizer:
    """What tells in which cell of a map a photo was taken: prototypes, and the model whose
    descriptors they are compared with."""

    def __init__(
        self, cells: CellClassifier, model: DescriptorModel, *, is_of_database: bool
    ) -> None:
        """`is_of_database`: whether the model is the one that describes the database's queries too.
        Raises `CardMismatch`."""
        if cells.dim != model.dim:
            raise CardMismatch(
                cells.model,
                (
                    f"its cells are told by {cells.dim} numbers, and {model.name} gives "
                    f"{model.dim}; name the model it has"
                ),
            )
        self.cells, self.model, self.is_of_database = cells, model, is_of_database

    @classmethod
    def of_database(
        cls, store: Store, model: DescriptorModel, index: Index
    ) -> CellLocalizer | None:
        """That of an open database with this model: the classifier it was given, else its own
        cells' means; None without either."""
        given = stored_cells(store)
        if given is not None:
            is_same = given.model in ("", model.name, store.options.get("build", {}).get("model"))
            return cls.of_classifier(given, beside=model if is_same else None)
        means = index.means if isinstance(index, CellIndex) else None
        return None if means is None else cls(means, model.query_model, is_of_database=True)

    @classmethod
    def of_classifier(
        cls, cells: CellClassifier, *, beside: DescriptorModel | None = None
    ) -> CellLocalizer:
        """That of a classifier, which names its model; `beside` is that model where a database has
        it open already."""
        if beside is not None:
            return cls(cells, beside.query_model, is_of_database=True)
        return cls(cells, load_cell_model(cells), is_of_database=False)

    def ids_for(
        self, index: CellIndex, described: Described, source: PhotoSource | None, *, least: int
    ) -> np.ndarray | None:
        """Ids of the photos in the best cells of a query; None where all are to be searched: it
        cannot be described for cells, or no photo of the index has a place.
        """
        if index.table is None:
            return None
        descriptor = described.question.descriptor
        if not self.is_of_database:
            result = (
                UnreadableImage("<image>", "no pixels")
                if source is None
                else next(self.model.describe_each([source]))
            )
            if isinstance(result, UnreadableImage):
                return None
            descriptor = result.descriptor
        return index.ids_for(self.cells, descriptor[None], least=least)[0]

    def locate(
        self, sources: Iterable[PhotoSource], *, k: int = 20, around: Around | None = None
    ) -> Iterator[Position]:
        """For each photo the middle of its likeliest cell, and the `k` best cells as candidates, in
        order.

        The radius holds every place of that cell. Nothing is verified: there is no photo to compare
        with. A photo that cannot be read gives status `unknown` and the reason.
        """
        inside = self._inside(around)
        for batch in in_batches(list(sources), self.model.batch_size):
            started = time.perf_counter()
            results = list(self.model.describe_each(batch))
            share = (time.perf_counter() - started) / len(batch)
            for source, result in zip(batch, results, strict=True):
                name = str(source) if isinstance(source, str | Path) else "<image>"
                if isinstance(result, UnreadableImage):
                    yield Position(name, "unknown", reason=str(result))
                else:
                    yield self._answer(
                        name, result.descriptor, k=k, inside=inside, seconds={"describe": share}
                    )

    def locate_many(
        self,
        queries: Sequence[str | Path],
        *,
        k: int = 20,
        around: Around | None = None,
        show_progress: bool | None = None,
    ) -> Iterator[Position]:
        """As `locate`, for files, with a progress bar."""
        with progress("locating photos", total=len(queries), show=show_progress) as advance:
            for position in self.locate(queries, k=k, around=around):
                yield position
                advance(1)

    def _inside(self, around: Around | None) -> np.ndarray | None:
        """Cells whose middle lies inside a geographic filter; None for all."""
        if around is None:
            return None
        points = self.cells.points(np.arange(len(self.cells)))
        if points is None:
            raise BadOption(
                "these cells lie on a plane without a zone: nothing is near a latitude and "
                "longitude"
            )
        lat, lon = np.array([(point.lat, point.lon) for point in points]).T
        return np.flatnonzero(around.holds(lat, lon))

    def _answer(
        self,
        name: str,
        descriptor: np.ndarray,
        *,
        k: int,
        inside: np.ndarray | None,
        seconds: dict[str, float],
    ) -> Position:
        started = time.perf_counter()
        ranked = self.cells.rank(descriptor[None], num=k if inside is None else len(self.cells))
        best, scores = ranked.cells[0], ranked.scores[0]
        if inside is not None:
            kept = np.isin(best, inside)
            best, scores = best[kept][:k], scores[kept][:k]
        points = self.cells.points(best)
        candidates = tuple(
            Candidate(cell, rank, float(score), point=None if points is None else points[rank - 1])
            for rank, (cell, score) in enumerate(
                zip(self.cells.names(best), scores.tolist(), strict=True), start=1
            )
        )
        seconds["rank"] = time.perf_counter() - started
        if not candidates:
            return Position(
                name, "unknown", seconds=seconds, reason="no cell lies within the geographic filter"
            )
        told = (
            f"not verified: the likeliest of {len(self.cells):,} cells, told without a photo of it"
        )
        radius = None if points is None else self.cells.radius_m
        status: PositionStatus = "matched" if points is None else "located"
        return Position(
            name,
            status,
            candidates[0].point,
            radius,
            candidates=candidates,
            seconds=seconds,
            reason=told,
        )


def load_cell_model(cells: CellClassifier) -> DescriptorModel:
    """The model that a classifier of cells was learned with. Raises as `load_model`, and
    `NotFitted` for one that is fitted."""
    if not cells.model:
        raise InputError(
            "these cells do not say which model they were learned with; they go with a database "
            "of that model"
        )
    model = load_model(cells.model)
    if not model.is_fitted:
        raise NotFitted(
            f"{model.name} is fitted on photos: cells learned with it go with the database it was "
            "fitted on"
        )
    return model


def store_cells(
    path: str | Path, file: str | Path, *, options: BuildOptions | None = None
) -> CellClassifier:
    """The classifier of a file, given to a database in place of one that it had; it is made, of
    that model, where there is none.

    A database of cells alone places photos without any. Where it has photos and the engine `cells`,
    these are then searched in the classifier's best cells. A model that the file names by a path
    next to it is found there. Raises `InputError` for a file that is none, and as `load_model`.
    """
    cells = read_cells(file)
    beside = Path(file).absolute().parent / cells.model
    if cells.model.endswith(".safetensors") and beside.is_file():
        cells = replace(cells, model=str(beside))
    folder = Path(path)
    if is_begun(folder):
        store = Store.open(folder, writable=True)
    else:
        model = load_cell_model(cells)
        made = replace(
            options or BuildOptions(), model=cells.model, model_options=model.options, engine=ENGINE
        )
        store = open_or_create(folder, model, made)
    with store:
        store.write_blob(CELLS_BLOB, cells.to_arrays())
        write_engine(store, engine=str(store.options["build"]["engine"]))
    return cells
