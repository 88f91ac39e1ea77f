"""MeshVPR (Berton et al., ECCV 2024): copies of networks for renders, one recipe for each of its
methods, and a small one."""

from __future__ import annotations

from whence.training.options.aligned import AlignedCopyOptions, AlignedOptions, AlignedRecallOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions
from whence.training.recipe import Recipe

METHODS: dict[str, tuple[str, str, int]] = {
    "netvlad": ("", "features.28", 512),
    "sfrs": ("", "features.28", 512),
    "cosplace-r50-2048": ("cosplace-resnet50-2048", "layer3", 512),
    "cosplace-r50-512": ("cosplace-resnet50-512", "layer3", 512),
    "cosplace-r18-512": ("cosplace-resnet18-512", "layer3", 512),
    "eigenplaces": ("eigenplaces-resnet50-2048", "layer3", 512),
    "convap": ("convap-resnet50-4096", "", 320),
    "mixvpr": ("mixvpr-resnet50-4096", "", 320),
    "salad": ("salad-dinov2-8448", "blocks.8", 322),
}
"""MeshVPR's methods: the model that is copied, from which stage on it learns, and the side of the
photos in pixels. NetVLAD and SFRS are given by file: `--set learner.model=FILE`; of them the last
convolution, the words and the whitening learn."""


def _aligned(key: str) -> Recipe:
    model, stage, side_px = METHODS[key]
    return Recipe(
        name=f"meshvpr-{key}",
        summary=(
            f"MeshVPR's schedule for {model or key + ', given by file'}: 5 x 10,000 steps of 32 "
            "pairs; needs a GPU"
        ),
        learner=AlignedCopyOptions(model=model, freeze_before=stage),
        branches=(AlignedOptions(width=side_px, height=side_px),),
        optimizer=OptimizerOptions("adam", lr=1e-5),
        loop=LoopOptions(
            num_steps=50_000, precision="bf16", log_every=50, validate_every=10_000, save_every=1000
        ),
        validate_on=AlignedRecallOptions(),
    )


SMALL = Recipe(
    name="meshvpr-small",
    summary="a copy of the small network that comes with Whence for renders: minutes on one core",
    learner=AlignedCopyOptions(model="whence-resnet18conv4-gem-256", freeze_before="layer2"),
    branches=(AlignedOptions(batch_size=16, width=192, height=144),),
    optimizer=OptimizerOptions("adam", lr=1e-4),
    loop=LoopOptions(
        num_steps=600, precision="bf16", log_every=20, validate_every=200, save_every=100
    ),
    validate_on=AlignedRecallOptions(),
)
RECIPES = (*(_aligned(key) for key in METHODS), SMALL)
