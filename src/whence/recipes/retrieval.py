"""The advice of "All You Need to Know About Training Image Retrieval Models" (Berton et al., 2025),
for much memory and little.

The whole of DINOv2 ViT-B learns, at a rate that suits weights that were trained before: name them
with `start_from`. The class token is the descriptor. The study stops after three epochs of 100,000
images without a better result; validation here comes as often. It draws three of RandAugment's
operations a photo, which are not here: colour and crop stand in their place.
"""

from __future__ import annotations

from whence.training.options.augment import AugmentOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions
from whence.training.options.placed import PlacesOptions
from whence.training.options.places import BatchOptions, LossOptions
from whence.training.recipe import Recipe

_EPOCH = 100_000
"""Images."""
_AUGMENT = AugmentOptions(
    width=224, height=224, brightness=0.25, contrast=0.25, saturation=0.25, crop=0.2
)


def _loop(batch_size: int) -> LoopOptions:
    steps = _EPOCH // batch_size
    return LoopOptions(
        num_steps=100 * steps,
        precision="bf16",
        log_every=20,
        validate_every=steps,
        save_every=steps,
        patience=3,
    )


HIGH_VRAM = Recipe(
    name="image-retrieval-high-vram",
    summary=(
        "fine-tuning with batches of 256 or more: pairs, 4 views a place; needs a large GPU and "
        "weights to start from"
    ),
    learner=NetworkOptions(backbone="dinov2_vitb14", aggregator=AggregatorOptions("cls")),
    branches=(
        PlacesOptions(
            batches=BatchOptions(num_places=64, num_views=4),
            augment=_AUGMENT,
            loss=LossOptions("multi_similarity", miner="multi_similarity"),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-6),
    loop=_loop(256),
)
LOW_VRAM = Recipe(
    name="image-retrieval-low-vram",
    summary=(
        "fine-tuning with smaller batches: classes, 1 view a place; needs a GPU and weights to "
        "start from"
    ),
    learner=NetworkOptions(backbone="dinov2_vitb14", aggregator=AggregatorOptions("cls")),
    branches=(
        PlacesOptions(
            batches=BatchOptions(num_places=128, num_views=1),
            augment=_AUGMENT,
            loss=LossOptions("cosface", lr=1.0),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-6),
    loop=_loop(128),
)
RECIPES = (HIGH_VRAM, LOW_VRAM)
