"""The arms of the study of sequences: what is pooled without training, and what each training
changes of the recipe."""

from __future__ import annotations

ONE, PLAIN = "one frame", "as built"
OTHER_DRIVES = ("reversed", "double speed", "gaps")
ASIDE = "aside"
"""Queries of another folder, driven at another lateral offset."""
GAP_EVERY = 7
"""With gaps each so-many-th frame of the queries is missing: windows across it are not there."""
RULES = ("mean", "max", "cat", "delta", "seqgem", "aligned", "matching")
"""Without training, over the frames' descriptors of one model."""
_LARGE = (
    "backbone_options={num_blocks=4}",
    "start_from=",
    "start_with=all",
    "augment.width=224",
    "augment.height=224",
)
ARMS: dict[str, tuple[str, ...]] = {
    "gem, seqgem": ("aggregator.name=gem", "aggregator.options={}", "sequence.name=seqgem"),
    "gem, cat": ("aggregator.name=gem", "aggregator.options={}", "sequence.name=cat"),
    "gem, fc": (
        "aggregator.name=gem",
        "aggregator.options={}",
        "sequence.name=fc",
        "sequence.options={dim=256}",
    ),
    "gem, seqnet": (
        "aggregator.name=gem",
        "aggregator.options={}",
        "sequence.name=seqnet",
        "sequence.options={dim=256,width=3}",
    ),
    "seqvlad": (),
    "resnet, seqvlad": ("backbone=resnet18conv4", "start_from=", "start_with=all"),
    "cct, seqvlad": ("backbone=cct224", *_LARGE),
    "timesformer": (
        *("backbone=timesformer_mini", *_LARGE),
        *(
            "aggregator.name=cls",
            "aggregator.options={}",
            "sequence.name=early",
            "sequence.options={}",
        ),
    ),
}
"""What each training changes of the recipe; the same steps, drives and mining."""
FIXED_LENGTH = ("gem, fc",)
JOINT = ("sequences alone", "sequences and images")
JOINT_LENGTHS = (1, 2, 3, 5, 7, 9)
"""Frames of a window that both are asked with, whatever they were trained with."""
SHARES = (5, 20, 100)
"""Per cent of the query drives that are trained on."""
