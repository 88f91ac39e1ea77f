"""What one training step holds in memory: classes in groups against tuples with the cache that they
are mined from.

    python benchmarks/class_memory.py            # published sizes, counted
    python benchmarks/class_memory.py --groups   # what lies on the device for 4, 8 and 50 groups

Counted, not measured on a device, so that published sizes fit any machine: networks run without
numbers (torch's device "meta"), and every tensor that is kept for the gradients counts, once;
weights, gradients and Adam's means of what learns, photos and the classifier of one group beside
them. A tuple is a query, its positive and its negatives. The cache is the descriptors of one
refresh of partial mining: queries drawn, candidates, and the positives of the queries, ten each. A
group has 35,000 classes here.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from whence.recipes import get_recipe
from whence.training.learners import make_network
from whence.training.losses.by_label import make_classifiers
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import NetworkOptions
from whence.training.options.loop import OptimizerOptions
from whence.training.options.places import LossOptions
from whence.training.options.tuples import TuplesOptions
from whence.training.recipe import Recipe, override
from whence.training.turns import Turns

NUM_CLASSES = 35_000
NUM_POSITIVES = 10
FLOAT_BYTES = 4
KEPT_PER_WEIGHT = 4
"""A weight, its gradient, and Adam's two means."""


def kept_for_gradients(network: nn.Module, num: int, width: int, height: int) -> int:
    """Bytes of all tensors that a forward pass of `num` photos keeps."""
    held: dict[int, int] = {}
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # Tensors are held, so that no other storage takes the place of one that was counted.
        kept.append(tensor)
        held[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {
        weight.untyped_storage()._cdata for weight in [*network.parameters(), *network.buffers()]
    }
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.empty(num, 3, height, width, device="meta"))
    return sum(size for key, size in held.items() if key not in weights)


def step_bytes(recipe: Recipe) -> dict[str, int]:
    """Bytes of one step by what they are for. Branches take turns, so that the largest counts."""
    assert isinstance(recipe.learner, NetworkOptions)
    plain = override(recipe, ["learner.start_from=", "learner.start_with=all"]).learner
    assert isinstance(plain, NetworkOptions)
    network = make_network(plain).to("meta").train()
    branch = recipe.branches[0]
    dim = int(network.dim)
    learning = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    fixed = sum(weight.numel() for weight in network.parameters()) - learning
    if isinstance(branch, ClassesOptions):
        num, aside = (
            branch.batch_size,
            {"classifier of one group": NUM_CLASSES * dim * FLOAT_BYTES * KEPT_PER_WEIGHT},
        )
    else:
        assert isinstance(branch, TuplesOptions)
        mining = branch.mining
        num = branch.batch_queries * (2 + mining.num_negatives)
        aside = {
            "cache": (mining.num_queries * (1 + NUM_POSITIVES) + mining.num_candidates)
            * dim
            * FLOAT_BYTES
        }
    width, height = branch.augment.width, branch.augment.height
    return {
        "weights": FLOAT_BYTES * (KEPT_PER_WEIGHT * learning + fixed),
        "photos": num * 3 * width * height * (1 + FLOAT_BYTES),
        "kept for gradients": kept_for_gradients(network, num, width, height),
        **aside,
    }


def show_steps() -> None:
    """Compare the recipes as they are, and both kinds on one network at one size."""
    same = [
        "learner.backbone=resnet18conv5",
        "learner.freeze_before=layer3",
        "augment.width=512",
        "augment.height=512",
    ]
    netvlad = get_recipe("vg-benchmark-resnet18conv4-netvlad")
    vgg = ["learner.backbone=vgg16", "learner.freeze_before=features.24"]
    pairs = {
        "all on VGG-16": [
            override(get_recipe("cosplace-resnet18-512"), vgg),
            override(netvlad, vgg),
        ],
        "recipes as they are": ["cosplace-resnet18-512", "eigenplaces-resnet18-512", netvlad],
        "one network (ResNet-18, 512 x 512)": [
            "cosplace-resnet18-512",
            "eigenplaces-resnet18-512",
            override(get_recipe("vg-benchmark-resnet18conv4-gem"), same),
            override(netvlad, same),
        ],
    }
    for title, recipes in pairs.items():
        print(f"\n{title}")
        found = {}
        for one in recipes:
            recipe = get_recipe(one) if isinstance(one, str) else one
            found[recipe.name] = parts = step_bytes(recipe)
            said = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in parts.items())
            print(f"  {recipe.name:<40}{sum(parts.values()) / 1e6:>8,.0f} MB: {said}")
        totals = {name: sum(parts.values()) for name, parts in found.items()}
        for ours in (name for name in totals if not name.startswith("vg")):
            for theirs in (name for name in totals if name.startswith("vg")):
                print(
                    f"  {ours}: {100 * (1 - totals[ours] / totals[theirs]):.0f} % less than "
                    f"{theirs}"
                )


def show_groups() -> None:
    """What a classifier and its optimizer take while it is their turn, however many groups there
    are."""
    for num_groups in (4, 8, 50):
        made = make_classifiers(LossOptions("cosface"), num_classes=[2000] * num_groups, dim=512)
        turns = Turns(made, options=OptimizerOptions("adam", lr=0.01))
        most = 0
        for group in range(num_groups):
            turns.begin(group, torch.device("cpu"))
            turns.part(torch.randn(32, 512), torch.arange(32)).backward()
            turns.optimizer.step()
            most = max(most, turns.num_bytes)
            turns.optimizer.zero_grad()
        whole = (
            sum(weight.numel() for part in turns.parts for weight in part.parameters())
            * FLOAT_BYTES
            * KEPT_PER_WEIGHT
        )
        print(
            f"{num_groups:>3} groups of 2,000 classes: {most / 1e6:.1f} MB on the device, "
            f"{whole / 1e6:,.1f} MB if all were there"
        )


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description="Memory of a training step")
    parser.add_argument("--groups", action="store_true", help="memory by number of groups")
    parser.add_argument("--quick", action="store_true", help="the same: it is quick")
    show_groups() if parser.parse_args().groups else show_steps()


if __name__ == "__main__":
    main()
