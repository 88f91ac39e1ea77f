"""Rows that take less: PCA, half precision and int8 against float32: bytes a photo, recall against
float32, time a query.

    python benchmarks/small_rows.py [--form both|int8|pca] [--rows 100000] [--dim 8448] [--kept 512]
                                    [--queries 50] [--json]
    # photos of a set: recall@1 within 25 m too
    python benchmarks/small_rows.py --set FOLDER --model NAME [--kept 128]

Rows are made block by block from a seed and never stored in float32: unit vectors around a few
thousand places in a space of 256 dimensions, as descriptors lie near few dimensions, and a query is
a row seen again with noise. What float32 finds is found in the same pass. 1,000,000 rows of 8,448
take 8.4 GB as int8 and 1 GB as 512 half numbers; float32 would take 34 GB. One form at a time
(`--form`), either answers within 9 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence

import numpy as np

from whence.index.flat import FlatIndex
from whence.models.pca import fit_pca, to_unit_length
from whence.runtime import random_stream, set_threads

BLOCK, LATENT, NEAREST, SAMPLE = 1_000, 256, 10, 4_096
DRAWN_BLOCKS = 16
"""Blocks that queries and the sample of the PCA are drawn from: each is like all others."""


def blocks(
    num: int, dim: int, *, only: Sequence[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of the first row, and rows (b, dim) float32 of unit length, the same every time;
    of some blocks or of all."""
    basis = random_stream(0, 1).standard_normal((LATENT, dim), dtype=np.float32) / np.sqrt(LATENT)
    places = random_stream(0, 2).standard_normal((max(1, num // 20), LATENT), dtype=np.float32)
    spread = (0.97 ** np.arange(LATENT)).astype(np.float32)
    for start in range(0, num, BLOCK) if only is None else [number * BLOCK for number in only]:
        random = random_stream(0, 3, start)
        count = min(BLOCK, num - start)
        near = places[random.integers(len(places), size=count)] + 0.5 * random.standard_normal(
            (count, LATENT), dtype=np.float32
        )
        yield (
            start,
            to_unit_length(
                (near * spread) @ basis
                + 0.02 * random.standard_normal((count, dim), dtype=np.float32)
            ),
        )


class Best:
    """The nearest rows of each query so far."""

    def __init__(self, num_queries: int) -> None:
        self.rows = np.full((num_queries, NEAREST), -1, np.int64)
        self.values = np.full((num_queries, NEAREST), -np.inf, np.float32)

    def add(self, similarities: np.ndarray, first: int) -> None:
        """Similarities (Q, b) to rows from `first` on."""
        values = np.concatenate([self.values, similarities], axis=1)
        numbers = np.arange(first, first + similarities.shape[1])
        rows = np.concatenate([self.rows, np.broadcast_to(numbers, similarities.shape)], axis=1)
        chosen = np.argsort(-values, axis=1, kind="stable")[:, :NEAREST]
        self.values, self.rows = (
            np.take_along_axis(part, chosen, axis=1) for part in (values, rows)
        )


class Codes:
    """Rows as one byte a dimension, one step for all; compared block by block, each a moment in
    float32."""

    def __init__(self, num: int, dim: int) -> None:
        self.rows, self.scale = np.empty((num, dim), np.int8), 0.0

    def add(self, block: np.ndarray, first: int) -> None:
        """Rows (b, dim) from `first` on; the first of them say how long a step is."""
        self.scale = self.scale or float(np.abs(block).max()) / 127
        self.rows[first : first + len(block)] = np.clip(np.rint(block / self.scale), -127, 127)

    def search(self, queries: np.ndarray) -> np.ndarray:
        """(Q, NEAREST) rows nearest to queries."""
        best = Best(len(queries))
        for first in range(0, len(self.rows), BLOCK):
            best.add(queries @ self.rows[first : first + BLOCK].astype(np.float32).T, first)
        return best.rows


def synthetic(
    num: int, dim: int, num_kept: int, num_queries: int, forms: str
) -> list[dict[str, object]]:
    """One row of figures for each form."""
    drawn = np.unique(np.linspace(0, (num - 1) // BLOCK, DRAWN_BLOCKS).astype(int)).tolist()
    sample = np.concatenate([block for _, block in blocks(num, dim, only=drawn)])
    chosen = random_stream(0, 4).choice(len(sample), num_queries, replace=False)
    noise = random_stream(0, 5).standard_normal((num_queries, dim), dtype=np.float32) / np.sqrt(dim)
    queries = to_unit_length(sample[chosen] + 0.5 * noise).astype(np.float32)
    has_codes, has_pca = forms != "pca", forms != "int8"
    if has_pca:
        mean, axes = fit_pca(
            sample[:: max(1, -(-len(sample) // SAMPLE))], num_kept, is_whitened=False
        )
        small_queries = to_unit_length((queries - mean) @ axes.T).astype(np.float32)
    del sample
    codes, halves = (
        Codes(num if has_codes else 1, dim),
        np.empty((num if has_pca else 1, num_kept), np.float16),
    )
    exact = Best(num_queries)
    for first, block in blocks(num, dim):
        exact.add(queries @ block.T, first)
        if has_codes:
            codes.add(block, first)
        if has_pca:
            halves[first : first + len(block)] = to_unit_length((block - mean) @ axes.T)
    best_ids: list[dict[str, object]] = [
        {"form": "float32", "bytes_per_photo": 4 * dim, "recall@1": 1.0, "recall@10": 1.0}
    ]
    for form, size, is_asked in (
        ("int8", dim, has_codes),
        (f"PCA {num_kept}, half", 2 * num_kept, has_pca),
    ):
        if not is_asked:
            continue
        started = time.perf_counter()
        rows = (
            codes.search(queries)
            if form == "int8"
            else FlatIndex.over(halves).search(small_queries, k=NEAREST).ids
        )
        seconds = (time.perf_counter() - started) / num_queries
        first_hit = float((rows[:, 0] == exact.rows[:, 0]).mean())
        shared = float(
            np.mean(
                [
                    len(set(a) & set(b)) / NEAREST
                    for a, b in zip(rows.tolist(), exact.rows.tolist(), strict=True)
                ]
            )
        )
        figures = {"recall@1": first_hit, "recall@10": shared, "ms_per_query": 1000 * seconds}
        best_ids.append(
            {"form": form, "bytes_per_photo": size, "total_gb": num * size / 1e9, **figures}
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    best_ids.append({"rows": num, "dim": dim, "queries": num_queries, "peak_gb": peak / 1e9})
    return best_ids


def of_set(folder: str, name: str, num_kept: int) -> list[dict[str, object]]:
    """Recall@1 within 25 m of a set's queries by each form of the database's rows."""
    from whence.data.evaluation_sets import open_set
    from whence.evaluation.protocol import metric_ground
    from whence.models.descriptor import load_model

    data, model = open_set(folder), load_model(name)
    files = [
        [photos.file(row) for row in range(len(photos))] for photos in (data.database, data.queries)
    ]
    model.prepare(files[0])
    rows, queries = (model.describe(part) for part in files)
    ground = metric_ground(data.database, data.queries)
    mean, axes = fit_pca(rows, min(num_kept, len(rows) // 2), is_whitened=False)
    small, small_queries = (
        to_unit_length((part - mean) @ axes.T).astype(np.float32) for part in (rows, queries)
    )
    found: list[dict[str, object]] = []
    for form, made, asked, size in (
        ("float32", rows, queries, 4 * model.dim),
        ("half", rows.astype(np.float16).astype(np.float32), queries, 2 * model.dim),
        ("int8", _as_int8(rows), queries, model.dim),
        (f"PCA {len(axes)}", small, small_queries, 4 * len(axes)),
        (
            f"PCA {len(axes)}, half",
            small.astype(np.float16).astype(np.float32),
            small_queries,
            2 * len(axes),
        ),
        (f"PCA {len(axes)}, int8", _as_int8(small), small_queries, len(axes)),
    ):
        nearest = (asked @ made.T).argmax(axis=1)
        apart = np.linalg.norm(ground.database[nearest] - ground.queries, axis=1)
        found.append(
            {
                "form": form,
                "bytes_per_photo": size,
                "recall@1 within 25 m": float((apart <= 25).mean()),
            }
        )
    return found


def _as_int8(rows: np.ndarray) -> np.ndarray:
    scale = np.abs(rows).max() / 127
    return np.asarray(np.rint(rows / scale) * scale, np.float32)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--form", choices=("both", "int8", "pca"), default="both")
    parser.add_argument("--dim", type=int, default=8_448)
    parser.add_argument("--kept", type=int, default=512, help="dimensions of the PCA")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--set", help="folder with database and queries, in place of made rows")
    parser.add_argument("--model", default="whence-lite0-448")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    made = (arguments.rows, arguments.dim, arguments.kept, arguments.queries, arguments.form)
    found = (
        of_set(arguments.set, arguments.model, arguments.kept)
        if arguments.set
        else synthetic(*made)
    )
    for row in found:
        said = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
        }
        print(
            json.dumps(said)
            if arguments.json
            else "  ".join(f"{name} {value}" for name, value in said.items())
        )


if __name__ == "__main__":
    main()
