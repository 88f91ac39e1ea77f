"""What one step of MegaLoc keeps for its gradients: six sub-batches one after the other against all
at once, and one by one.

    python benchmarks/branch_memory.py

Counted, not measured on a device, as `benchmarks/class_memory.py` counts: the network runs without
numbers (torch's device "meta") in training mode, and every tensor that is kept for the gradients
counts once. Weights, gradients and Adam's means come once in both ways. Blocks before the first
that learns keep nothing. The paper says 360 GB and 60 GB, with what it does not break down.
"""

from __future__ import annotations

import argparse

from class_memory import FLOAT_BYTES, KEPT_PER_WEIGHT, kept_for_gradients

from whence.recipes import get_recipe
from whence.training.learners import make_network
from whence.training.options.learners import NetworkOptions
from whence.training.recipe import Recipe, override

GIGA = 1e9


def sub_batches(recipe: Recipe) -> dict[str, tuple[int, int, int]]:
    """Photos, width and height of each sub-batch, by its name."""
    found = {}
    for branch in recipe.branches:
        batches, seen = branch.batches, branch.augment  # type: ignore[attr-defined]
        found[branch.name] = (batches.num_places * batches.num_views, seen.width, seen.height)
    return found


def count(name: str, changes: list[str]) -> None:
    """Print both ways for one recipe."""
    recipe = override(get_recipe(name), changes)
    options = override(recipe, ["learner.start_from="]).learner
    assert isinstance(options, NetworkOptions)
    network = make_network(options).to("meta").train()
    kept: dict[tuple[int, int, int], int] = {}
    parts = sub_batches(recipe)
    for size in parts.values():
        if size not in kept:
            kept[size] = kept_for_gradients(network, *size)
    learning = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    fixed = sum(weight.numel() for weight in network.parameters()) - learning
    weights = FLOAT_BYTES * (KEPT_PER_WEIGHT * learning + fixed)
    each = [kept[size] for size in parts.values()]
    apart, joint = weights + max(each), weights + sum(each)
    print(
        f"{name}{' ' + ' '.join(changes) if changes else ''}: "
        f"{', '.join(f'{k} {v[0]} photos' for k, v in parts.items())}"
    )
    print(
        f"  weights, gradients and Adam's means {weights / GIGA:.2f} GB; a sub-batch keeps "
        f"{max(each) / GIGA:.2f} GB at most"
    )
    print(
        f"  one after the other {apart / GIGA:.2f} GB, all at once {joint / GIGA:.2f} GB: "
        f"{joint / apart:.2f} times as much"
    )
    print(f"  of what is kept for gradients alone: {sum(each) / max(each):.2f} times")


def main() -> None:
    """Count the recipe as it is, and with everything learning."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    count("megaloc", [])
    count("megaloc", ["learner.freeze_before="])


if __name__ == "__main__":
    main()
