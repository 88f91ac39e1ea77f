"""Gradients of several branches one after the other against all at once: memory, time, and how far
the updates lie apart.

    python benchmarks/branches.py [--branches 3] [--batch 32] [--steps 3] [--json]

Each way runs in a process of its own, for its peak of memory: that of the process before the first
update is taken off.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = ("alone", "apart", "joint")
"""A single branch, and several of the same kind in both ways."""


def measure(
    way: str, *, num_branches: int, batch: int, num_steps: int, folder: Path
) -> dict[str, object]:
    """Peak of memory above the beginning in MB, seconds of an update, and a digest of the
    gradients' size."""
    import torch

    from whence.data.scan import scan_photos
    from whence.recipes import get_recipe
    from whence.runtime import set_threads
    from whence.training.options.placed import PlacesOptions
    from whence.training.options.places import BatchOptions, PlaceOptions
    from whence.training.recipe import Recipe, override
    from whence.training.step import Step
    from whence.training.train import make_task

    set_threads(1)
    changes = [
        "augment.width=160",
        "augment.height=120",
        "backbone=resnet18conv4",
        "optimizer.name=sgd",
        "optimizer.lr=1e-3",
    ]
    tiny: Recipe = override(get_recipe("tiny"), changes)
    branch = tiny.branches[0]
    assert isinstance(branch, PlacesOptions)
    places, batches = (
        PlaceOptions(radius_m=40, max_turn_deg=360, min_photos=2),
        BatchOptions(batch // 2, 2, min_apart_m=0),
    )
    count = 1 if way == "alone" else num_branches
    branches = tuple(
        PlacesOptions(
            name=f"branch{number}",
            places=places,
            batches=batches,
            augment=branch.augment,
            loss=branch.loss,
        )
        for number in range(count)
    )
    gradients = "joint" if way == "joint" else "apart"
    recipe = override(
        Recipe("measured", tiny.learner, branches, optimizer=tiny.optimizer),
        [f"loop.gradients={gradients}"],
    )
    step = Step(
        make_task(recipe, scan_photos(folder / "city"), pixels_folder=folder / "pixels"),
        options=recipe.loop,
    )
    with step:
        step.open()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, start = (
            time.perf_counter(),
            torch.cat([weight.detach().ravel() for weight in step.learner.parameters()]),
        )
        step.take()
        moved = torch.cat([weight.detach().ravel() for weight in step.learner.parameters()]) - start
        for _ in range(num_steps - 1):
            step.take()
        seconds = (time.perf_counter() - started) / num_steps
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    torch.save(moved, folder / f"{way}.pt")
    return {"way": way, "peak_mb": round(peak, 1), "seconds": round(seconds, 3)}


def main() -> None:
    """Measure every way, and compare the first updates of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branches", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="photos of a batch")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        given = {
            "num_branches": arguments.branches,
            "batch": arguments.batch,
            "num_steps": arguments.steps,
        }
        print(json.dumps(measure(arguments.way, folder=arguments.folder, **given)))
        return
    import torch

    from whence.worlds.capture import CaptureOptions
    from whence.worlds.city import WorldOptions, render_world

    with tempfile.TemporaryDirectory() as folder:
        render_world(
            Path(folder) / "city",
            preset="tiny",
            options=WorldOptions(capture=CaptureOptions(width=160, height=120)),
        )
        rows = []
        for way in WAYS:
            words = [sys.executable, *sys.argv, "--way", way, "--folder", folder]
            rows.append(
                json.loads(
                    subprocess.run(
                        words, capture_output=True, text=True, check=True
                    ).stdout.splitlines()[-1]
                )
            )
        apart, joint = (
            torch.load(Path(folder) / f"{way}.pt", weights_only=True) for way in ("apart", "joint")
        )
        difference = float((apart - joint).norm() / joint.norm())
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        print(json.dumps({"relative_difference": difference}))
        return
    print(
        f"{arguments.branches} branches of {arguments.batch} photos of 160 x 120, ResNet-18 to "
        "conv4, one thread"
    )
    for row in rows:
        print(
            f"{row['way']:6} peak {row['peak_mb']:7.1f} MB above the beginning, "
            f"{row['seconds']:.2f} s an update"
        )
    print(f"the updates of both ways differ by {difference:.1e} of their length")


if __name__ == "__main__":
    main()
