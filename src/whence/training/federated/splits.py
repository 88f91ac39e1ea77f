"""Splits of a training set into clients, each with queries, their positives and negatives; and what
is lost by it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence import records
from whence.data.fields import plain_field, safe_fields
from whence.data.formats import EvaluationSet
from whence.errors import BadOption, InputError, NoPhotos, UnreadableTable
from whence.evaluation.protocol import Ground, leave_out_unplaced, metric_ground
from whence.geo import neighbors_within
from whence.runtime import atomic_write, random_stream
from whence.training.branches.tile_groups import k_means
from whence.training.federated.options import SplitOptions

_SPLITS = 71
COLUMNS = ("photo", "role", "client")


@dataclass(frozen=True)
class Clients:
    """A set of N database photos and Q queries, and whose each of them is."""

    data: EvaluationSet
    database: np.ndarray
    """(N,) number of the client, -1 for nobody's."""
    queries: np.ndarray
    """(Q,) the same."""
    options: SplitOptions
    num_usable: np.ndarray
    """(C,) queries of each client that can be learned from."""

    @property
    def num(self) -> int:
        """How many clients there are."""
        return len(self.num_usable)

    def of(self, number: int) -> EvaluationSet:
        """The photos of one client. Raises `BadOption`."""
        if not 0 <= number < self.num:
            raise BadOption(f"there are clients 0 to {self.num - 1}, not {number}")
        database, queries = (
            np.flatnonzero(side == number) for side in (self.database, self.queries)
        )
        notes = tuple(self.data.notes[row] for row in queries) if self.data.notes else ()
        name = f"{self.data.name}, client {number}"
        return EvaluationSet(
            name,
            self.data.database.select(database),
            self.data.queries.select(queries),
            notes=notes,
        )

    def report(self) -> dict[str, Any]:
        """Sizes of the clients, how uneven they are, the ground they cover, and what the split
        loses."""
        sizes = np.array(
            [
                np.sum(self.database == number) + np.sum(self.queries == number)
                for number in range(self.num)
            ]
        )
        whole = usable_queries(self.data, self.options)
        ground = metric_ground(self.data.database, self.data.queries)
        spans = [
            _span_m(
                np.concatenate(
                    [ground.database[self.database == n], ground.queries[self.queries == n]]
                )
            )
            for n in range(self.num)
        ]
        return {
            "clients": self.num,
            "photos": {
                "least": int(sizes.min()),
                "median": float(np.median(sizes)),
                "most": int(sizes.max()),
                "gini": gini(sizes),
            },
            "queries": {"of_each_client": self.num_usable.tolist(), "gini": gini(self.num_usable)},
            "span_m": {"least": min(spans), "median": float(np.median(spans)), "most": max(spans)},
            "lost": {
                "queries": int(whole.sum() - self.num_usable.sum()),
                "of": int(whole.sum()),
                "photos_of_nobody": int(np.sum(self.database < 0) + np.sum(self.queries < 0)),
            },
        }


def split(data: EvaluationSet, *, options: SplitOptions) -> Clients:
    """The clients of a set whose photos have places; it follows from the options and the photos
    alone.

    Raises `NoPhotos` where no client has enough queries, `InputError` for photos without places,
    and `BadOption`.
    """
    data, _ = leave_out_unplaced(data)
    ground = metric_ground(data.database, data.queries)
    places = np.concatenate([ground.database, ground.queries])
    cells, cell_of = np.unique(
        np.floor(places / options.cell_m).astype(np.int64), axis=0, return_inverse=True
    )
    cell_of = cell_of.ravel()
    sizes = np.bincount(cell_of).astype(float)
    middles = np.stack([np.bincount(cell_of, column) / sizes for column in places.T], axis=1)
    if options.name == "city":
        owners = _by_folder(data.database.paths, data.queries.paths)
    else:
        if options.num_clients > len(cells):
            raise BadOption(
                f"{data.name}: {len(cells)} cells cannot be shared by {options.num_clients} clients"
            )
        owners = _owners(middles, sizes, options)[cell_of]
    sides = owners[: len(data.database)], owners[len(data.database) :]
    return _large_enough(data, ground, *sides, options=options)


def _owners(middles: np.ndarray, sizes: np.ndarray, options: SplitOptions) -> np.ndarray:
    """(cells,) which client each is of."""
    random, num = random_stream(options.seed, _SPLITS), options.num_clients
    shares = np.exp(options.skew * random.standard_normal(num)) if options.skew else np.ones(num)
    shares /= shares.sum()
    if options.name == "clustering":
        return k_means((middles - middles.mean(axis=0)).astype(np.float32), num, seed=options.seed)[
            1
        ]
    owners = np.full(len(sizes), -1)
    order = random.permutation(len(sizes))
    for number, wanted in enumerate(np.cumsum(shares) * sizes.sum()):
        free = order[owners[order] < 0]
        if options.name == "proximity" and len(free):
            free = free[
                np.argsort(np.linalg.norm(middles[free] - middles[free[0]], axis=1), kind="stable")
            ]
        taken = sizes[owners >= 0].sum()
        ends = taken + np.cumsum(sizes[free])
        # A cell goes to the client in whose share its middle lies; every client gets one while
        # there are any.
        count = (
            len(free)
            if number == num - 1
            else max(1, int(np.sum(ends - sizes[free] / 2 <= wanted)))
        )
        owners[free[:count]] = number
    return owners


def _by_folder(database: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """(N + Q,) number of the first folder of each path that both sides have: not one of weathers
    that queries alone have."""
    sides = [
        [path.replace("\\", "/").split("/")[:-1] for path in paths] for paths in (database, queries)
    ]
    shared = set.intersection(
        *({folder for folders in side for folder in folders} for side in sides)
    )
    names = [
        next((folder for folder in folders if folder in shared), "")
        for side in sides
        for folders in side
    ]
    return np.unique(names, return_inverse=True)[1]


def _large_enough(
    data: EvaluationSet,
    ground: Ground,
    database: np.ndarray,
    queries: np.ndarray,
    *,
    options: SplitOptions,
) -> Clients:
    """Clients of too few queries join the nearest other; one that stays alone with too few is
    nobody's."""
    while True:
        numbers = np.unique(np.concatenate([database, queries]))
        is_usable = _usable_within(data, ground, database, queries, options)
        counts = {int(n): int(is_usable[queries == n].sum()) for n in numbers}
        small = [n for n, count in counts.items() if count < options.min_queries]
        if not small or len(numbers) == 1:
            break
        middles = {
            int(n): np.concatenate(
                [ground.database[database == n], ground.queries[queries == n]]
            ).mean(axis=0)
            for n in numbers
        }
        least = min(small, key=lambda n: (counts[n], n))
        others = [n for n in middles if n != least]
        nearest = min(others, key=lambda n: (float(np.linalg.norm(middles[n] - middles[least])), n))
        database, queries = (np.where(side == least, nearest, side) for side in (database, queries))
    if small:
        raise NoPhotos(
            f"{data.name}: {counts[small[0]]} queries have a positive within "
            f"{options.positive_m:g} m and "
            f"{options.num_negatives} negatives; a client needs {options.min_queries}"
        )
    database, queries = (np.searchsorted(numbers, side) for side in (database, queries))
    return Clients(data, database, queries, options, np.array([counts[int(n)] for n in numbers]))


def usable_queries(data: EvaluationSet, options: SplitOptions) -> np.ndarray:
    """(Q,) whether each query could be learned from if all photos were one client's."""
    ground = metric_ground(data.database, data.queries)
    one = np.zeros(len(data.database), int), np.zeros(len(data.queries), int)
    return _usable_within(data, ground, *one, options)


def _usable_within(
    data: EvaluationSet,
    ground: Ground,
    database: np.ndarray,
    queries: np.ndarray,
    options: SplitOptions,
) -> np.ndarray:
    """(Q,) whether each query has a positive and enough negatives within its client."""
    totals = np.bincount(
        database, minlength=int(max(database.max(initial=0), queries.max(initial=0))) + 1
    )
    has_positive, num_near = np.zeros(len(queries), int), np.zeros(len(queries), int)
    for radius_m, found in (
        (options.positive_m, has_positive),
        (max(options.positive_m, options.excluded_m), num_near),
    ):
        near = neighbors_within(ground.database, ground.queries, radius_m=radius_m)
        owners = np.repeat(np.arange(len(queries)), near.counts)
        np.add.at(found, owners, database[near.members] == queries[owners])
    usable: np.ndarray = (has_positive > 0) & (totals[queries] - num_near >= options.num_negatives)
    return usable


def write_clients(path: str | Path, clients: Clients) -> None:
    """A CSV of photo, role and client, and beside it JSON with the split, what it loses, and a key
    of the photos."""
    path, data = Path(path), clients.data
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for role, photos, owners in (
            ("database", data.database, clients.database),
            ("query", data.queries, clients.queries),
        ):
            writer.writerows(
                safe_fields([name, role, int(owner)])
                for name, owner in zip(photos.paths, owners, strict=True)
            )
    header = {
        "split": records.as_values(clients.options),
        "made_of": _key(data),
        **clients.report(),
    }
    with atomic_write(path.with_suffix(".json"), "w") as file:
        json.dump(header, file, indent=1)


def read_clients(path: str | Path, data: EvaluationSet) -> Clients:
    """The clients that `write_clients` wrote, of the same set. Raises `UnreadableTable` and
    `InputError`."""
    path = Path(path)
    data, _ = leave_out_unplaced(data)
    try:
        header = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        options = records.fill(SplitOptions, header["split"], what="field of the split")
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                (row["role"], plain_field(row["photo"]), int(row["client"]))
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableTable(path, f"not the clients of a split ({error})") from None
    if header["made_of"] != _key(data):
        raise InputError(
            f"{path.name!r} was made of other photos than {data.name} has; split it anew with "
            "whence federate split"
        )
    owners = {(role, photo): client for role, photo, client in rows}
    database, queries = (
        np.array([owners.get((role, name), -1) for name in photos.paths], int)
        for role, photos in (("database", data.database), ("query", data.queries))
    )
    counts = np.array(header["queries"]["of_each_client"], int)
    return Clients(data, database, queries, options, counts)


def gini(sizes: np.ndarray) -> float:
    """How uneven sizes (C,) are: 0 where all are alike, near 1 where one has everything."""
    ordered = np.sort(sizes).astype(float)
    if not ordered.sum():
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def _span_m(places: np.ndarray) -> float:
    return float(np.linalg.norm(np.ptp(places, axis=0))) if len(places) else 0.0


def _key(data: EvaluationSet) -> str:
    from whence.training.pixels import key_of  # Beside what needs torch.

    return f"{key_of(data.database)}-{key_of(data.queries)}"
