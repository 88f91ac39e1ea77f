"""Which search engine a database uses, and where what it keeps lies: made after each change, loaded
on opening."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption
from whence.index.cells.classifier import CellClassifier
from whence.index.cells.engine import CellIndex
from whence.index.cells.table import RowPlaces
from whence.index.remote import RemoteIndex
from whence.index.store import Store
from whence.index.vectors import Engine, Index
from whence.registry import get_entry
from whence.runtime import progress

ENGINE_BLOB = "engine"
CELLS_BLOB = "cells"
"""A classifier of cells that the database was given; `whence.localize.cells` asks it."""
OWNER_BLOB = "owner"
"""By what a server's table knows that it is this database's."""
EXACT = "flat"
"""The engine that keeps nothing: the answer where another's arrays are missing or out of date."""


def check_engine(engine: str, *, dim: int) -> None:
    """Raises `UnknownName` for a name that is no engine, and `BadOption` for one that does not take
    this dimension."""
    made, options = _engine(engine)
    made.check(dim=dim, **options)


def code_bytes(num_descriptors: int, dim: int, *, engine: str) -> int:
    """Bytes per photo that the engine keeps, for estimates."""
    made, options = _engine(engine)
    return made.kept_bytes(num_descriptors, dim=dim, **options)


def engine_over(
    matrix: np.ndarray,
    *,
    engine: str,
    is_searchable: np.ndarray,
    photos: Photos | None = None,
    cells: CellClassifier | None = None,
) -> Engine:
    """The engine over the rows (N, D) of the mask (N,) alone; others, which may be NaN, are not
    searched.

    `photos`: those of the rows, one each, for an engine that goes by place. `cells`: what tells the
    places of queries, see `whence.localize.cells`; without it such an engine does so itself.
    """
    made, options = _engine(engine)
    is_whole = bool(is_searchable.all())
    # Exact search reads rows only when it is asked: they need not be copied.
    rows = matrix if is_whole or engine == EXACT else np.nan_to_num(matrix)
    found = _made_over(
        made,
        options,
        rows,
        Photos.of([]) if photos is None else photos,
        np.arange(len(photos or ())),
        cells,
    )
    if not is_whole:
        found.remove(np.flatnonzero(~is_searchable))
    return found


def write_engine(store: Store, *, engine: str) -> None:
    """Make the database's engine and keep its arrays in the database; nothing where exact search is
    as good."""
    made, options = _engine(engine)
    if issubclass(made, RemoteIndex):
        _write_to_server(store, made, options)
        return
    cells = stored_cells(store)
    kept = _made_over(
        made, options, store.descriptors, store.photos, store.descriptor_rows, cells
    ).kept()
    if kept is not None:
        store.write_blob(ENGINE_BLOB, {"rows_id": np.array(store.rows_id), **kept})
    else:
        store.delete_blob(ENGINE_BLOB)


def _write_to_server(store: Store, engine: type[RemoteIndex], options: dict[str, Any]) -> None:
    """Write what the server lacks, and keep the reference to it."""
    known = store.read_blob(OWNER_BLOB)
    owner = secrets.token_hex(8) if known is None else str(known["owner"])
    if known is None:
        store.write_blob(OWNER_BLOB, {"owner": np.array(owner)})
    places = _places_of_rows(store.photos, store.descriptor_rows, num_rows=len(store.descriptors))
    with progress("writing rows to the server", total=len(store.descriptors)) as advance:
        found = engine.over_contents(
            store.descriptors,
            store.contents,
            places,
            owner=owner,
            photos=store.photos,
            on_progress=advance,
            **options,
        )
    kept = found.kept()
    found.close()
    assert kept is not None
    store.write_blob(ENGINE_BLOB, {"rows_id": np.array(store.rows_id), **kept})


def _places_of_rows(
    photos: Photos, rows: np.ndarray, *, num_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (M,) of a matrix's rows, of which photo i has row `rows[i]`: NaN for
    none, infinity for several."""
    lat, lon = np.full(num_rows, np.nan), np.full(num_rows, np.nan)
    placed = np.flatnonzero((rows >= 0) & photos.has_point)
    lat[rows[placed]], lon[rows[placed]] = photos.lat[placed], photos.lon[placed]
    # Another photo with the same bytes may have been written over: those that lie elsewhere show
    # it.
    is_elsewhere = (lat[rows[placed]] != photos.lat[placed]) | (
        lon[rows[placed]] != photos.lon[placed]
    )
    several = rows[placed[is_elsewhere]]
    lat[several] = lon[several] = np.inf
    return lat, lon


def stored_cells(store: Store) -> CellClassifier | None:
    """The classifier of cells that the database was given. Raises `InputError` for a damaged
    one."""
    arrays = store.read_blob(CELLS_BLOB)
    return None if arrays is None else CellClassifier.from_arrays(arrays)


def _made_over(
    engine: Any,
    options: dict[str, Any],
    matrix: np.ndarray,
    photos: Photos,
    rows: np.ndarray,
    cells: CellClassifier | None,
) -> Engine:
    """The engine over a matrix, of which photo i has row `rows[i]`."""
    if not issubclass(engine, CellIndex):
        found: Engine = engine.over(matrix, **options)
        return found
    places = RowPlaces.of_photos(
        photos, rows, num_rows=len(matrix), zone="" if cells is None else cells.zone
    )
    if cells is None:
        return engine.over_places(matrix, places, **options)
    return engine.over_places(matrix, places, cell_m=cells.cell_m, has_means=False, **options)


def open_engine(store: Store) -> Index:
    """The engine of an open database. Arrays that are out of date (a killed run) are left aside:
    search is then exact."""
    kept = store.read_blob(ENGINE_BLOB)
    if kept is None or str(kept["rows_id"]) != store.rows_id:
        return _engine(EXACT)[0].over(store.descriptors)
    made, options = _engine(store.options.get("build", {}).get("engine", "auto"))
    return made.from_kept(
        {name: array for name, array in kept.items() if name != "rows_id"},
        store.descriptors,
        **options,
    )


def _engine(name: str) -> tuple[Any, dict[str, Any]]:
    """The class of an engine and the options that it was registered with. Raises `UnknownName`,
    `BadOption`."""
    entry = get_entry("index", name)
    made = entry.load()
    if not (isinstance(made, type) and issubclass(made, Engine)):
        raise BadOption(
            f"the index {name} is no search engine; let its class derive from "
            "whence.index.vectors.Engine"
        )
    return made, dict(entry.options)
