"""Cards of SegVPR (Paolicelli et al., ICIAP 2021): descriptors of two scales, trained beside what
pixels show."""

from __future__ import annotations

from whence.cards import IMAGENET_MEAN, ModelCard, Origin, Preprocessing

_DRIVE = (
    "the authors' share, linked at github.com/valeriopaolicelli/SegVPR; the checkpoint of this "
    "backbone and head"
)
_MEAN_255 = tuple(value / 255 for value in IMAGENET_MEAN)
"""The authors take ImageNet's mean, which is of values from 0 to 1, off blue, green and red from 0
to 255."""


def _card(depth: int, head: str) -> ModelCard:
    return ModelCard(
        name=f"segvpr-resnet{depth}-{head}-3072",
        summary=(
            f"SegVPR with ResNet-{depth} and {'DeepLab' if head == 'deeplab' else 'PSPNet'}: "
            "learned on rendered streets"
        ),
        dim=3072,
        preprocessing=Preprocessing(
            interpolation="bilinear",
            colour="bgr",
            mean=(_MEAN_255[0], _MEAN_255[1], _MEAN_255[2]),
            std=(1 / 255, 1 / 255, 1 / 255),
        ),
        licence="Apache-2.0",
        weights=f"the authors' share: ResNet-{depth} with {head}",
        training_data=(
            "IDDA v2, a rendered town (on request); photos of Oxford RobotCar without labels for "
            "the opponent"
        ),
        citation="Paolicelli, Tavera, Masone, Berton, Caputo: Learning semantics for visual place "
        "recognition through multi-scale attention, ICIAP 2021",
        weights_licence="unknown",
        origins=(Origin("manual", _DRIVE, f"segvpr_r{depth}_{head}.pth"),),
        backbone=f"resnet{depth}conv4_5",
        aggregator="attention",
        aggregator_options={"mode": "released"},
        keys="segvpr",
        is_unit_length=False,
        limits=(
            "in these weights the attention leaves the descriptor as it is: its pooling cancels it"
        ),
    )


SEMANTIC_CARDS = tuple(_card(depth, head) for depth in (50, 101) for head in ("deeplab", "psp"))
