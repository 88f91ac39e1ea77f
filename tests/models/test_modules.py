"""Any torch module as a backbone or a descriptor: what it must give, and that it runs as networks
do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from whence.cards import Preprocessing
from whence.errors import BadOption
from whence.models.aggregators import make_aggregator
from whence.models.backbones import make_backbone
from whence.models.modules import ModuleBackbone, ModuleDescriptor
from whence.models.networks import Network
from whence.registry import KINDS, register
from whence.runtime import random_stream

PLAIN = Preprocessing(size_px=(60, 80), interpolation="bilinear")


def vectors(dim: int = 48) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, dim // 4, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    return [
        random_stream(3, k).integers(0, 255, (*size, 3), np.uint8) for k, size in enumerate(sizes)
    ]


def test_a_module_describes_as_it_does_by_itself() -> None:
    module = vectors()
    model = ModuleDescriptor(module, dim=48)
    model.configure(PLAIN, engine="eager")
    shown = images((60, 80), (60, 80), (44, 52))
    found = model.describe(shown)
    for image, row in zip(shown, found, strict=True):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        pixels = (pixels - torch.tensor(PLAIN.mean).view(3, 1, 1)) / torch.tensor(PLAIN.std).view(
            3, 1, 1
        )
        with torch.no_grad():
            expected = nn.functional.normalize(module(pixels), dim=1)[0]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
    assert model.dim == 48
    assert model.is_fitted


def test_lower_precision_runs_too() -> None:
    model, fast = ModuleDescriptor(vectors(), dim=48), ModuleDescriptor(vectors(), dim=48)
    model.configure(PLAIN, engine="eager")
    fast.configure(PLAIN, engine="bf16")
    shown = images((60, 80))
    assert float((model.describe(shown) * fast.describe(shown)).sum()) > 0.99


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (vectors(40), r"vectors \(B, 48\), not \(1, 40\)"),
        (nn.Conv2d(3, 48, 5), r"vectors \(B, 48\), not \(1, 48, 56, 76\)"),
        (nn.MultiheadAttention(80, 2), "vectors"),
    ],
)
def test_a_module_that_gives_something_else_says_what(module: nn.Module, words: str) -> None:
    if isinstance(module, nn.MultiheadAttention):
        module = type("Several", (nn.Module,), {"forward": lambda self, images: (images, images)})()
    model = ModuleDescriptor(module, dim=48)
    with pytest.raises(BadOption, match=words):
        model.network(torch.zeros(1, 3, 60, 80))


def test_a_fixed_size_is_checked_before_the_module_sees_it() -> None:
    model = ModuleDescriptor(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)), dim=4, size_px=(8, 8)
    )
    assert model.network(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(BadOption, match="must be 8 x 8"):
        model.network(torch.zeros(2, 3, 8, 9))


def test_a_module_of_maps_is_a_backbone_with_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KINDS["backbone"], "_rows", dict(KINDS["backbone"]))

    def open_mine(takes_any_size: bool = False) -> ModuleBackbone:
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2)
        )
        return ModuleBackbone(
            module, channels=16, stride=8, name=f"mine-{takes_any_size}", stages=("0", "2")
        )

    register("backbone", "mine", open_mine)
    backbone = make_backbone("mine")
    assert Network(backbone, make_aggregator("gem", 16))(torch.rand(2, 3, 60, 80)).shape == (2, 16)
    backbone.freeze_before("2")
    assert [p.requires_grad for p in backbone.parameters()] == [False, False, True, True]
    assert make_backbone("mine", takes_any_size=True).name == "mine-True", (
        "what is asked for reaches it"
    )
    with pytest.raises(BadOption, match="no option 'num_blocks'"):
        make_backbone("mine", num_blocks=3)
    wrong = ModuleBackbone(nn.Conv2d(3, 8, 3), channels=16, stride=1)
    with pytest.raises(BadOption, match=r"maps \(B, 16, h, w\), not \(1, 8, 4, 4\)"):
        wrong(torch.zeros(1, 3, 6, 6))
