"""The field's evaluation layouts: folders of database and queries, lists of pairs, and walks with
the same frames.

Protocols (thresholds, which queries count) are not here; a set only says which photos there are
and, where the layout states it, which of them show the same place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from whence.data.folders import LeftOut
from whence.data.photos import Photos
from whence.data.positions import PositionTable, read_positions
from whence.data.scan import (
    ReadOptions,
    check_matched,
    list_photos,
    read_files,
    read_list,
    scan_photos,
)
from whence.data.tables import FileFinder, Row, read_rows, read_text, sniff_delimiter
from whence.errors import BadOption, NoPhotos, UnreadableTable
from whence.lists import NeighborLists, lists_of

DATABASE_FOLDERS = ("database", "gallery", "reference", "ref")
QUERIES_FOLDERS = ("queries", "query")
POSITION_FILES = ("positions.csv", "positions.geojson")
_PAIR_COLUMNS = ("positives", "positive", "ref", "refs", "reference", "database")
_IGNORED_COLUMNS = ("ignore", "ignored", "junk")


@dataclass(frozen=True)
class EvaluationSet:
    """Database, queries, and the truth: for each query the database rows that show its place, or
    None to go by distance."""

    name: str
    database: Photos
    queries: Photos
    positives: NeighborLists | None = None
    notes: tuple[str, ...] = ()
    """For each query what the set says of it, words joined by "_" (night, sideways); empty where
    file names say it or nothing."""
    passed_over: NeighborLists | None = None
    """For each query the database rows that are left out of its ranking, neither right nor wrong;
    None where there are none."""


@dataclass(frozen=True, slots=True)
class SetOptions:
    """What may be said about a set beside its path; a layout looks at what it knows."""

    split: str = ""
    """Folder of a split, or Mapillary's train, val or cities with commas between them."""
    database_folder: str | None = None
    queries_folder: str | None = None
    positions: str | None = None
    """Table of positions."""
    reading: ReadOptions = field(default_factory=ReadOptions)


def read_folders(
    root: str | Path,
    *,
    split: str = "",
    database_folder: str | Path | None = None,
    queries_folder: str | Path | None = None,
    positions: str | Path | PositionTable | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
) -> EvaluationSet:
    """A set of two folders whose photos carry positions: in "@" names, EXIF, or a table.

    Looks for database (or gallery, reference, ref) and queries (or query) in `root`, `root/split`,
    `root/images/split`, and without a split also in `root/images/test` and `root/test`; folders
    given explicitly are relative to `root`. Beside a folder, `database_images_paths.txt` may list
    its photos, relative to the folder; then they are taken in that order, else sorted. `positions`
    may be a table; otherwise positions.csv or positions.geojson in `root` is used. Raises
    `NoPhotos`.
    """
    root = Path(root)
    database_path, queries_path = _two_folders(root, split, database_folder, queries_folder)
    table = _position_table(root, positions)
    if table is not None:
        table = table.fitted_to(
            [*_folder_files(database_path, LeftOut()), *_folder_files(queries_path, LeftOut())]
        )
    database = _read_folder(database_path, table, options)
    queries = _read_folder(queries_path, table, options)
    if table is not None:
        check_matched(table, database, queries)
        database = database.with_remarks(table.remarks())
    return EvaluationSet(_set_name(root, split), database, queries)


def read_pairs(
    path: str | Path,
    *,
    database_folder: str | Path | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
) -> EvaluationSet:
    """A set whose truth is a CSV table: columns `query` and `positives` (or `ref`), several
    positives separated by ";".

    Paths are relative to the table. The database is every photo of `database_folder`, or of the
    folders that hold positives, queries left out. A query on several lines has the positives of all
    of them; one without positives keeps its place with none. With a third column `ignore` queries
    stay in the database, for others to find: each passes over itself and what the column lists,
    positives never. Raises `UnreadableTable` with the line for a photo that cannot be read, and
    `NoPhotos`.
    """
    path = Path(path)
    pairs, ignored, lines = _read_pair_rows(path)
    if not pairs:
        raise NoPhotos(f"{str(path)!r} lists no queries")
    folders = {os.path.dirname(file) for positives in pairs.values() for file in positives}
    if database_folder is not None:
        folders = {os.path.abspath(path.parent / database_folder)}
    if not folders:
        raise NoPhotos(f"{str(path)!r} lists no positives, so the database folder must be given")
    queries = read_files(
        list(pairs),
        root=os.path.commonpath([os.path.dirname(file) for file in pairs]),
        options=options,
    )
    database = scan_photos(*sorted(folders), **options._asdict())
    if ignored is None:
        database = database.select(
            np.array([_file(database, row) not in pairs for row in range(len(database))], bool)
        )
    _check_readable(path, pairs, lines, queries)
    row_of = {_file(database, row): row for row in range(len(database))}
    positives = []
    for query, files in pairs.items():
        missing = next((file for file in files if file not in row_of), None)
        if missing is not None:
            reason = f"the positive {missing!r} is not a readable photo of the database"
            raise UnreadableTable(path, reason, line=lines[query, missing])
        positives.append(np.unique(np.array([row_of[file] for file in files], np.int64)))
    passed_over = None
    if ignored is not None:
        files_out = ([query, *ignored[query]] for query in pairs)
        rows_out = (
            np.array([row_of[file] for file in files if file in row_of], np.int64)
            for files in files_out
        )
        passed_over = lists_of(
            [np.setdiff1d(rows, right) for rows, right in zip(rows_out, positives, strict=True)]
        )
    return EvaluationSet(
        path.parent.resolve().name, database, queries, lists_of(positives), passed_over=passed_over
    )


def read_frames(
    root: str | Path,
    *,
    tolerance_frames: int,
    database_folder: str | Path | None = None,
    queries_folder: str | Path | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
) -> EvaluationSet:
    """A set of two walks along the same way: the same frame shows the same place, give or take
    `tolerance_frames`.

    Photos are put in natural order of their names (frame2 before frame10). Where every query has a
    database photo of the same name, endings aside, that is its frame; otherwise both walks must
    have the same length and frames correspond by order.
    """
    if tolerance_frames < 0:
        raise BadOption(
            f"a tolerance of {tolerance_frames} frames is not possible; it is 0 or more"
        )
    root = Path(root)
    database_path, queries_path = _two_folders(root, "", database_folder, queries_folder)
    database = _in_natural_order(_read_folder(database_path, None, options))
    queries = _in_natural_order(_read_folder(queries_path, None, options))
    frames = _frames(database, queries, root)
    first = np.maximum(frames - tolerance_frames, 0)
    last = np.minimum(frames + tolerance_frames, len(database) - 1)
    positives = [np.arange(low, high + 1) for low, high in zip(first, last, strict=True)]
    return EvaluationSet(_set_name(root, ""), database, queries, lists_of(positives))


def read_positive_rows(path: str | Path, *, num_database: int) -> NeighborLists:
    """Truth from a .npy file: an integer matrix (Q, P) of database rows, -1 where a query has fewer
    than P.

    Object arrays, as some published sets use, are pickles, which can run any code: they are
    refused. Raises `UnreadableTable`.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UnreadableTable(path, error.strerror or "not a .npy file") from None
    except (ValueError, EOFError) as error:
        reason = f"not a plain .npy matrix ({error})"
        if "pickle" in str(error):
            reason = (
                "it is a pickle, which could run any code; write the pairs as CSV with the header "
                '"query,positives" instead'
            )
        raise UnreadableTable(path, reason) from None
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or not np.issubdtype(rows.dtype, np.integer)
    ):
        raise UnreadableTable(path, "not an integer matrix with one row for each query")
    if rows.size and (rows.max() >= num_database or rows.min() < -1):
        raise UnreadableTable(
            path, f"it holds rows outside 0 to {num_database - 1}, the rows of the database"
        )
    return lists_of([np.unique(row[row >= 0]).astype(np.int64) for row in rows])


def natural_key(path: str) -> tuple[tuple[int, int, str], ...]:
    """The key by which names with numbers sort as a person would sort them: frame2 before
    frame10."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", path)
    return tuple((0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces)


def _two_folders(
    root: Path, split: str, database_folder: str | Path | None, queries_folder: str | Path | None
) -> tuple[Path, Path]:
    if not root.is_dir():
        raise NoPhotos(f"{str(root)!r} is not a folder")
    parents = (
        [root / split, root / "images" / split]
        if split
        else [root, root / "images" / "test", root / "test"]
    )
    for parent in parents:
        database = _one_folder(root, parent, database_folder, DATABASE_FOLDERS)
        queries = _one_folder(root, parent, queries_folder, QUERIES_FOLDERS)
        if database is not None and queries is not None:
            return database, queries
    places = ", ".join(repr(str(parent)) for parent in parents)
    wanted = f"{' or '.join(DATABASE_FOLDERS)} beside {' or '.join(QUERIES_FOLDERS)}"
    raise NoPhotos(
        f"no folders {wanted} in {places}; name them with database_folder and queries_folder"
    )


def _one_folder(
    root: Path, parent: Path, folder: str | Path | None, usual: Sequence[str]
) -> Path | None:
    if folder is not None:
        return root / folder if (root / folder).is_dir() else None
    return next((parent / name for name in usual if (parent / name).is_dir()), None)


def _folder_files(folder: Path, left_out: LeftOut) -> list[str]:
    listing = folder.with_name(f"{folder.name}_images_paths.txt")
    return (
        read_list(listing, folder=folder)
        if listing.is_file()
        else list_photos(folder, left_out=left_out)
    )


def _read_folder(folder: Path, table: PositionTable | None, options: ReadOptions) -> Photos:
    left_out = LeftOut()
    photos = read_files(
        _folder_files(folder, left_out), root=folder, positions=table, options=options
    )
    if not len(photos):
        reason = (
            f"; {len(photos.skipped)} files cannot be read, the first: {photos.skipped[0]}"
            if photos.skipped
            else ""
        )
        raise NoPhotos("; ".join([f"no photos in {str(folder)!r}{reason}", *left_out.remarks()]))
    return photos.with_remarks(left_out.remarks())


def _position_table(
    root: Path, positions: str | Path | PositionTable | None
) -> PositionTable | None:
    if isinstance(positions, PositionTable):
        return positions
    if positions is None:
        positions = next((root / name for name in POSITION_FILES if (root / name).is_file()), None)
    return None if positions is None else read_positions(positions)


def _set_name(root: Path, split: str) -> str:
    name = root.resolve().name
    return f"{name}/{split}" if split else name


def _read_pair_rows(
    path: Path,
) -> tuple[dict[str, list[str]], dict[str, list[str]] | None, dict[tuple[str, str], int]]:
    """Absolute paths of each query's positives and, where a column names them, of what it passes
    over; lines by what they name.

    The line is that on which each query (with "") and each of its positives was first named.
    """
    text = read_text(path)
    # The semicolon separates positives inside a field, so it cannot separate the fields.
    rows = read_rows(text, path=path, delimiter=sniff_delimiter(text, delimiters=",\t"))
    pairs: dict[str, list[str]] = {}
    ignored: dict[str, list[str]] = {}
    lines: dict[tuple[str, str], int] = {}
    finder = FileFinder(path.parent)
    columns: tuple[int, int, int | None] | None = None
    for row in rows:
        if columns is None:
            columns = _pair_columns(row, path)
            continue
        if len(row.fields) <= max(columns[:2]):
            raise UnreadableTable(path, "a line without query or positives", line=row.line)
        query, positives = (row.fields[column].strip() for column in columns[:2])
        if not query:
            raise UnreadableTable(path, "a line without a query", line=row.line)
        file = finder.find(query)
        lines.setdefault((file, ""), row.line)
        for named in _named(finder, positives):
            pairs.setdefault(file, []).append(named)
            lines.setdefault((file, named), row.line)
        pairs.setdefault(file, [])
        third = columns[2]
        ignored.setdefault(file, []).extend(
            _named(
                finder, row.fields[third] if third is not None and third < len(row.fields) else ""
            )
        )
    return pairs, None if columns is None or columns[2] is None else ignored, lines


def _named(finder: FileFinder, text: str) -> list[str]:
    return [finder.find(name.strip()) for name in text.split(";") if name.strip()]


def _pair_columns(header: Row, path: Path) -> tuple[int, int, int | None]:
    titles = [title.strip().lower() for title in header.fields]
    second = next((titles.index(title) for title in _PAIR_COLUMNS if title in titles), None)
    if "query" not in titles or second is None:
        reason = f"the columns are {', '.join(header.fields)}; needed are query and positives"
        raise UnreadableTable(path, reason, line=header.line)
    return (
        titles.index("query"),
        second,
        next((titles.index(title) for title in _IGNORED_COLUMNS if title in titles), None),
    )


def _check_readable(
    path: Path, pairs: dict[str, list[str]], lines: dict[tuple[str, str], int], queries: Photos
) -> None:
    readable = {_file(queries, row) for row in range(len(queries))}
    for query in pairs:
        if query not in readable:
            raise UnreadableTable(
                path, f"the query {query!r} is not a readable photo", line=lines[query, ""]
            )


def _file(photos: Photos, row: int) -> str:
    return os.path.normpath(photos.file(row))


def _in_natural_order(photos: Photos) -> Photos:
    return photos.select(
        np.array(
            sorted(range(len(photos)), key=lambda row: natural_key(photos.paths[row])), np.int64
        )
    )


def _frames(database: Photos, queries: Photos, root: Path) -> np.ndarray:
    """The database row of each query's frame: (Q,) int64."""
    stems = {os.path.splitext(name)[0]: row for row, name in enumerate(database.paths)}
    rows = [stems.get(os.path.splitext(name)[0], -1) for name in queries.paths]
    if -1 not in rows:
        return np.array(rows, np.int64)
    if len(queries) != len(database):
        strange = queries.paths[rows.index(-1)]
        reason = (
            f"the walks have {len(database)} and {len(queries)} frames, and {strange!r} has no "
            "namesake in the database"
        )
        raise UnreadableTable(root, f"{reason}; frames cannot be told to correspond")
    return np.arange(len(queries), dtype=np.int64)
