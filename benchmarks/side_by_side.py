"""Run several ways of doing the same thing side by side: interleaved rounds in shuffled order,
process CPU time, medians, ratios.

Absolute times mean little on a shared machine; ratios of medians taken in one process do. `compare`
prints a table and returns it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date


@dataclass(frozen=True)
class Timing:
    name: str
    cpu_ms: float
    """Median CPU milliseconds per item."""
    wall_ms: float
    ratio: float
    """How many times faster than the peer, by CPU time."""
    note: str = ""


def compare(
    title: str,
    ways: Mapping[str, Callable[[], object]],
    *,
    peer: str,
    items: int,
    rounds: int = 5,
    notes: Mapping[str, str] | None = None,
    scale: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Timing]:
    """Time every way `rounds` times, in shuffled order, after one warm-up each. `items`: how many
    items one call handles.

    `scale` holds factors for ways that do only a share of the work, where their time is known to be
    proportional.
    """
    for way in ways.values():
        way()
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    order = random.Random(seed)
    for _ in range(rounds):
        names = list(ways)
        order.shuffle(names)
        for name in names:
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            ways[name]()
            cpu[name].append(time.process_time() - cpu_start)
            wall[name].append(time.perf_counter() - wall_start)
    base = (scale or {}).get(peer, 1.0) * statistics.median(cpu[peer])
    table = []
    for name in ways:
        factor = (scale or {}).get(name, 1.0)
        spent = factor * statistics.median(cpu[name])
        table.append(
            Timing(
                name=name,
                cpu_ms=1e3 * spent / items,
                wall_ms=1e3 * factor * statistics.median(wall[name]) / items,
                ratio=base / spent,
                note=(notes or {}).get(name, ""),
            )
        )
    show(title, table, peer=peer)
    return table


def show(title: str, table: list[Timing], *, peer: str) -> None:
    """Print a table, the peer marked."""
    print(f"\n{title}")
    width = max(len(row.name) for row in table) + 2
    print(f"  {'way':<{width}}{'CPU ms/item':>13}{'wall ms/item':>14}{'times faster':>14}  note")
    for row in table:
        name = row.name + (" *" if row.name == peer else "")
        print(
            f"  {name:<{width}}{row.cpu_ms:>13.4g}{row.wall_ms:>14.4g}{row.ratio:>14.2f}  "
            f"{row.note}"
        )


def save(path: str | None, results: Mapping[str, list[Timing]]) -> None:
    """Write all tables as JSON with the date and the machine, where a path is given."""
    if path is None:
        return
    facts = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(
            {
                **facts,
                "tables": {title: [asdict(row) for row in rows] for title, rows in results.items()},
            },
            file,
            indent=1,
        )


def options(description: str) -> argparse.ArgumentParser:
    """The arguments every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="also write the tables as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    return parser
