"""Heads on the blocks of the network that comes with Whence, on streets, landmarks and rooms: the
one it comes with, and those of trainings.

    python tools/render_many_kinds.py FOLDER
    python benchmarks/kinds.py FOLDER/val- [RUN/final.safetensors ...] [--json]

Every head stands in the whole descriptor of `whence-lite0-448`, half-whitened on the photos of each
database. Prints recall@1 of each kind with its 95 % interval, and what that is less the first
head's, query by query. Right are photos within 25 m, easy and hard ones of a landmark, frames of
rooms within 10 m and 30 degrees.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from whence.data.formats import EvaluationSet
from whence.evaluation.metrics import bootstrap_interval
from whence.models.adapted import HEAD, network_bytes
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints.origins import get_weights
from whence.models.checkpoints.plain import read_old_weights
from whence.models.descriptor import load_model
from whence.models.engines.lite_graph import OWN_OUTPUTS, own_graph
from whence.models.engines.onnx_graph import open_graph, read_arrays, with_arrays
from whence.models.lite import OWN, LiteDescriptor
from whence.runtime import set_threads
from whence.studies.many_sources_runs import hits_of, read_tests


def head_of(file: Path) -> dict[str, np.ndarray]:
    """The head of a training by whence-lite0 or whence-lite0-many, its norm folded."""
    tensors = {
        name.removeprefix("aggregator."): array.astype(np.float32)
        for name, array in load_file(file).items()
        if name.startswith("aggregator.")
    }
    blocks = read_old_weights(get_weights(BACKBONES["efficientnet_lite0"])[0])
    arrays = read_arrays(own_graph(blocks, tensors))
    return {name: arrays[name] for name in HEAD}


def hits(head: dict[str, np.ndarray] | None, data: EvaluationSet) -> np.ndarray:
    """(Q,) whether a query's first answer is right, with this head or the packaged one."""
    model = load_model(OWN)
    assert isinstance(model.descriptor, LiteDescriptor)
    if head is not None:
        model.descriptor.maps = open_graph(with_arrays(network_bytes(None), head), OWN_OUTPUTS)
    model.fit([data.database.file(row) for row in range(len(data.database))])
    return hits_of(model, data).astype(float)


def main() -> None:
    """Print a line for each head and kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", help="what the folders' names begin with")
    parser.add_argument("trainings", nargs="*", type=Path, help="weights of trainings")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    set_threads(1)
    tests = read_tests({name: given.worlds + name for name in ("street", "landmarks", "indoor")})
    for name, data in tests.items():
        first = None
        for file in (None, *given.trainings):
            found = hits(None if file is None else head_of(file), data)
            first = found if first is None else first
            record = {
                "kind": name,
                "head": OWN if file is None else str(file),
                "queries": len(found),
                "recall@1": float(found.mean()),
                "interval": bootstrap_interval(found),
                "less the first": float((found - first).mean()),
                "its interval": bootstrap_interval(found - first),
            }
            said = (
                f"{name:<12}{record['head']:<40}{100 * found.mean():.1f} % "
                f"{shown(record['interval'])}, {100 * record['less the first']:+.1f} "
                f"{shown(record['its interval'])} of {len(found)}"
            )
            print(json.dumps(record) if given.json else said, flush=True)


def shown(interval: tuple[float, float]) -> str:
    """An interval in per cent."""
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


if __name__ == "__main__":
    main()
