"""Networks of sequences: eight whole ones with the published numbers, TimeSformer, and files of
weights of SeqVLAD and JIST."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from fills import fill, image_of
from published_keys import affine, compact, indexed_cnn, netvlad, published
from whence.cards import ModelCard
from whence.errors import BadOption, WeightsMismatch
from whence.models.aggregators import make_aggregator
from whence.models.aggregators.sequence import make_sequence_pool
from whence.models.backbones import make_backbone
from whence.models.backbones.timesformer import TimeSformer
from whence.models.backbones.transformers import VitShape
from whence.models.checkpoints.keys import Translator
from whence.models.checkpoints.networks import load_weights, make_network
from whence.models.networks import Network
from whence.models.zoo import CARDS

SEQVLAD, JIST = CARDS["seqvlad-cct384-24576"], CARDS["jist-resnet18-512"]
R18 = replace(SEQVLAD, backbone="resnet18conv4", backbone_options={}, sequence_length=2)
TABLE = indexed_cnn("resnet18conv4", "encoder.")
CCT = compact("encoder.", 8)
WHOLE: dict[str, tuple[ModelCard, dict[str, Any], int, tuple[float, ...], float, float]] = {
    "r18l3 + SeqVLAD": (
        R18,
        {**TABLE, **netvlad("aggregator", 256)},
        16384,
        (0.013961, 0.027029, 0.008836, 0.006035, 0.000426, -0.007069),
        -0.002108,
        28.59355,
    ),
    "r18l3 + GeM + CAT": (
        replace(R18, aggregator="gem", sequence="cat"),
        {**TABLE, "pooling.1.p": (1,)},
        512,
        (0.119884, 0.303555, 0.057862, 0.051017, 0.117647, 0.057241),
        0.200952,
        32.69981,
    ),
    "r18l3 + MAC + FC": (
        replace(R18, aggregator="mac", sequence="fc", sequence_options={"dim": 8}),
        {**TABLE, **affine("aggregator.1", 8, 512)},
        8,
        (-0.066933, -0.391863, 0.142952, 0.150175, 0.060318, 0.234058),
        0.278559,
        0.65432,
    ),
    "r18l3 + NetVLAD + CAT": (
        replace(R18, sequence="cat"),
        {**TABLE, **netvlad("pooling", 256)},
        32768,
        (0.014030, 0.027288, 0.008694, 0.006142, 0.000580, -0.006768),
        -0.003517,
        57.12431,
    ),
    "r18l3 + RMAC + CAT": (
        replace(R18, aggregator="rmac", sequence="cat"),
        TABLE,
        512,
        (2.085516, 4.537855, 0.831254, 0.832903, 1.708616, 0.810761),
        2.769065,
        486.7649,
    ),
    "vgg16 + SeqVLAD": (
        replace(R18, backbone="vgg16"),
        {**indexed_cnn("vgg16", "encoder."), **netvlad("aggregator", 512)},
        32768,
        (-0.005412, -0.005784, -0.004028, -0.009741, 0.002128, 0.000493),
        -0.007529,
        -66.78403,
    ),
    "CCT384 + SeqVLAD": (
        SEQVLAD,
        {**CCT, **netvlad("aggregator", 384, is_tokens=True)},
        24576,
        (-0.004373, -0.000600, -0.002871, -0.009164, 0.006201, -0.004305),
        0.013469,
        4.15556,
    ),
    "CCT384 + SeqPool + CAT": (
        replace(
            SEQVLAD, aggregator="seqpool", sequence="cat", sequence_length=2, keys="seqvlad-pooled"
        ),
        CCT,
        768,
        (-1.258367, -0.120043, -0.367929, -0.805756, -0.630490, -1.822949),
        2.859132,
        0.10123,
    ),
}
NUM_ENTRIES = {
    "r18l3 + SeqVLAD": 92,
    "r18l3 + GeM + CAT": 91,
    "r18l3 + MAC + FC": 92,
    "r18l3 + NetVLAD + CAT": 92,
}
NUM_ENTRIES |= {
    "r18l3 + RMAC + CAT": 90,
    "vgg16 + SeqVLAD": 28,
    "CCT384 + SeqVLAD": 97,
    "CCT384 + SeqPool + CAT": 95,
}


def filled(card: ModelCard, table: dict[str, Any]) -> Network:
    """The card's network, filled by the published rule in the published order, its names brought to
    ours."""
    names = Translator(card.keys, card.backbone)
    network = make_network(card).eval()
    with torch.inference_mode():
        fill(network, [names.ours(theirs) or theirs for theirs in table])
    return network


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_networks_give_the_published_numbers(name: str) -> None:
    card, table, dim, first, last, total = WHOLE[name]
    assert len(table) == NUM_ENTRIES[name]
    network = filled(card, table)
    shape = (2, 3, 384, 384) if card.backbone == "cct384" else (2, 3, 96, 128)
    frames = image_of(shape)[None]
    with torch.inference_mode():
        found = network(frames)
    assert found.shape == (1, dim)
    assert torch.allclose(found[0, :6], torch.tensor(first), atol=2e-4)
    assert found[0, -1].item() == pytest.approx(last, abs=2e-4)
    assert found.sum().item() == pytest.approx(total, rel=1e-4, abs=2e-3)
    if name == "r18l3 + SeqVLAD":
        with torch.inference_mode():
            assert torch.allclose(found, network(frames.flip(1)), atol=1e-6)
            photo = frames[0, :1]
            assert torch.equal(network(photo[:, None]), network(photo)), (
                "of one frame it is NetVLAD"
            )
    if name == "CCT384 + SeqPool + CAT":
        assert found.norm().item() == pytest.approx(27.658609, abs=1e-3)
        with torch.inference_mode():
            tokens = network.features(frames[0])
        expected = torch.tensor([-1.150086, -0.137806, -0.429480, -0.853747, -0.612629, -1.831399])
        assert tokens.cls is not None
        assert torch.allclose(tokens.cls[0, :6], expected, atol=2e-4)
        assert tokens.map.sum().item() == pytest.approx(54.2259, abs=1e-2)


def test_jist_as_a_whole_gives_the_published_numbers() -> None:
    # Frames of sequences whatever their shape; single images of its other branch are another
    # matter.
    assert (JIST.preprocessing.size_px, JIST.preprocessing.interpolation) == (
        (480, 640),
        "bilinear",
    )
    table = published(JIST)
    assert len(table) == 124
    network = filled(JIST, table)
    with torch.inference_mode():
        kept = network.describe_frames(image_of((6, 3, 96, 128)))
        found = network.pool(kept.reshape(2, 3, 512))
    assert torch.allclose(
        kept[0, :6],
        torch.tensor([-0.037591, 0.031736, -0.002241, 0.024977, 0.037249, -0.042045]),
        atol=2e-4,
    )
    assert torch.allclose(
        found[0, :6],
        torch.tensor([0.000001, 0.022276, 0.020762, 0.031506, 0.039490, 0.000001]),
        atol=2e-4,
    )
    assert torch.allclose(
        found[1, :6],
        torch.tensor([0.000001, 0.028458, 0.025620, 0.040316, 0.039307, 0.000001]),
        atol=2e-4,
    )
    assert found[0, -1].item() == pytest.approx(0.028591, abs=2e-4)
    assert found[0].sum().item() == pytest.approx(15.41252, abs=2e-3)
    assert found[0].norm().item() == pytest.approx(0.927014, abs=2e-4)
    network.backbone.learn_only("layer4")
    counts = [
        sum(p.numel() for p in network.parameters() if p.requires_grad or is_all)
        for is_all in (True, False)
    ]
    assert counts == [11_439_170, 8_656_386]


def test_files_of_jist_and_seqvlad_are_read_with_their_pools_and_no_others_are(
    tmp_path: Path,
) -> None:
    table = published(JIST)
    tensors = {
        key: torch.zeros((), dtype=torch.int64) if not shape else torch.full(shape, 0.01)
        for key, shape in table.items()
    }
    tensors["seq_gem.p"] = torch.tensor([2.5])
    torch.save(tensors, tmp_path / "jist.pth")
    network = load_weights(tmp_path / "jist.pth", JIST)
    assert float(network.state_dict()["sequence.p"]) == 2.5
    torch.save(
        {name: tensor for name, tensor in tensors.items() if name != "seq_gem.p"},
        tmp_path / "frames.pth",
    )
    with pytest.raises(WeightsMismatch, match=r"sequence\.p"):
        load_weights(tmp_path / "frames.pth", JIST)
    with pytest.raises(WeightsMismatch, match=r"124 unknown"):
        load_weights(tmp_path / "jist.pth", CARDS["cosplace-resnet18-512"])
    small = {**compact("encoder.", 1), **netvlad("aggregator", 384, is_tokens=True)}
    wrapped = {f"module.{key}": torch.full(shape, 0.01) for key, shape in small.items()}
    torch.save(
        {"epoch_num": 3, "model_state_dict": wrapped, "not_improved_num": 0},
        tmp_path / "seqvlad.pth",
    )
    read = load_weights(tmp_path / "seqvlad.pth", SEQVLAD)
    assert len(read.backbone.blocks) == 1  # type: ignore[arg-type]
    assert read.pool.length == 5


def test_timesformer_is_as_large_as_published_and_begins_as_the_same_frame_many_times() -> None:
    with torch.device("meta"):
        whole = make_backbone("timesformer", num_frames=5)
        mini = make_backbone("timesformer_mini")
    assert sum(p.numel() for p in whole.parameters()) / 1e6 == pytest.approx(121.26, abs=0.006)
    assert (mini.name, mini.channels, len(mini.blocks)) == ("timesformer_mini", 192, 4)  # type: ignore[arg-type]
    torch.manual_seed(0)
    backbone = TimeSformer(
        num_frames=3, shape=VitShape(24, 2, 3, patch_px=16, image_px=32, is_dinov2=False)
    ).eval()
    aggregator = make_aggregator("cls", 24)
    network = Network(backbone, aggregator, make_sequence_pool("early", aggregator, length=3))
    frames = torch.randn(2, 3, 3, 32, 32)
    with torch.inference_mode():
        still = frames[:, :1].expand(-1, 3, -1, -1, -1)
        # Time begins as nothing, so that a frame alone and the same one again and again say the
        # same.
        assert torch.allclose(network(still), network(frames[:, 0]), atol=1e-5)
        for block in backbone.blocks:
            torch.nn.init.eye_(block.temporal_fc.weight)  # type: ignore[union-attr, arg-type]
        backbone.time_embed.normal_()
        forward, backward = network(frames), network(frames.flip(1))
        assert not torch.allclose(forward, backward, atol=1e-3), "the order counts"
        assert (
            network(frames[:, :2]).shape
            == network(torch.cat([frames, frames], dim=1)).shape
            == (2, 24)
        )
        assert backbone.of_sequences(frames).map.shape == (2, 24, 6, 2)
    with pytest.raises(BadOption, match="sees sequences"):
        Network(make_backbone("resnet18conv2"), aggregator, network.pool)
    with pytest.raises(BadOption, match="num_frames"):
        make_backbone("resnet18conv2", num_frames=2)


def slow_divided(x: Tensor, block: Any, num_frames: int) -> Tensor:
    """A block of TimeSformer on tokens (1, 1 + n * S, C), patch by patch and frame by frame, as its
    authors arrange them."""
    cls, patches = x[:, :1], x[:, 1:].reshape(1, -1, num_frames, x.shape[-1])
    moved = patches.clone()
    for n in range(patches.shape[1]):
        moved[:, n] = patches[:, n] + block.temporal_fc(
            block.temporal_attn(block.temporal_norm1(patches[:, n]))
        )
    said, seen = [], moved.clone()
    for s in range(num_frames):
        found = block.attn(block.norm1(torch.cat([cls, moved[:, :, s]], dim=1)))
        said.append(found[:, :1])
        seen[:, :, s] = moved[:, :, s] + found[:, 1:]
    tokens = torch.cat([cls + sum(said) / num_frames, seen.reshape(1, -1, x.shape[-1])], dim=1)
    return tokens + block.mlp(block.norm2(tokens))


def test_a_divided_block_is_the_slow_one() -> None:
    torch.manual_seed(1)
    backbone = TimeSformer(
        num_frames=3, shape=VitShape(12, 1, 2, patch_px=16, image_px=32, is_dinov2=False)
    ).eval()
    block: Any = backbone.blocks[0]
    torch.nn.init.normal_(block.temporal_fc.weight, std=0.3)
    cls, patches = torch.randn(1, 1, 12), torch.randn(1, 3, 4, 12)
    with torch.inference_mode():
        found_cls, found = block(cls, patches)
        slow = slow_divided(
            torch.cat([cls, patches.transpose(1, 2).reshape(1, 12, 12)], dim=1), block, 3
        )
    assert torch.allclose(found_cls, slow[:, :1], atol=1e-5)
    assert torch.allclose(found, slow[:, 1:].reshape(1, 4, 3, 12).transpose(1, 2), atol=1e-5)


def test_models_of_sequences_pool_frames_that_are_described_once(tmp_path: Path) -> None:
    import numpy as np

    from network_samples import images
    from whence.errors import UnreadableImage
    from whence.models.descriptor import DescriptorModel, load_model
    from whence.models.network_descriptor import NetworkDescriptor
    from whence.models.sequences import needs_order, sequence_model

    torch.manual_seed(0)
    card = replace(
        R18,
        backbone="resnet18conv2",
        sequence_length=3,
        preprocessing=replace(R18.preprocessing, size_px=(48, 64)),
    )
    network = make_network(card).eval()

    def opened(of: ModelCard, body: Network) -> DescriptorModel:
        descriptor = NetworkDescriptor(body)
        descriptor.configure(of.preprocessing, engine="eager")
        return DescriptorModel(of, descriptor)

    model = opened(card, network)
    frames: list[Any] = images(4, size=(60, 80))
    frames.insert(2, tmp_path / "missing.jpg")
    own = sequence_model(model)
    kept = list(own.describe_frames(frames))
    assert [isinstance(one, UnreadableImage) for one in kept] == [False, False, True, False, False]
    read = np.stack([one for one in kept if not isinstance(one, UnreadableImage)])
    windows = np.stack([read[:3], read[1:]])
    found = own.pool(windows)
    whole = network(
        torch.stack(
            [
                own._prepared(np.stack([model.read(frames[i]) for i in rows]))
                for rows in ((0, 1, 3), (1, 3, 4))
            ]
        )
    )
    assert np.allclose(found, whole.detach().numpy(), atol=1e-5)
    assert not needs_order(own)
    early_pool = make_sequence_pool("early", make_aggregator("cls", 24), length=2)
    backbone = TimeSformer(
        num_frames=2, shape=VitShape(24, 1, 3, patch_px=16, image_px=32, is_dinov2=False)
    )
    early_card = replace(
        card, sequence="early", preprocessing=replace(card.preprocessing, size_px=(32, 32))
    )
    early = sequence_model(
        opened(early_card, Network(backbone, make_aggregator("cls", 24), early_pool))
    )
    pixels = np.stack(list(early.describe_frames(frames[:2])))
    assert pixels.shape == (2, 32, 32, 3)
    assert early.pool(pixels[None]).shape == (1, 24)
    assert needs_order(early)
    by_rule = sequence_model(model, "cat", is_unit=True)
    assert by_rule.pool(np.stack(list(by_rule.describe_frames(frames[:2])))[None])[0].shape == (
        2 * network.dim,
    )
    with pytest.raises(BadOption, match="no sequence pool"):
        sequence_model(load_model("rootsift-vlad"), "own")
    with pytest.raises(BadOption, match="options go with a rule"):
        sequence_model(model, options={"p": 2.0})


def test_timesformer_begins_from_a_vit_that_looks_over_space() -> None:
    from whence.models.backbones.of_timm import _from_timm

    shape = VitShape(24, 1, 3, patch_px=16, image_px=32, is_dinov2=False)
    torch.manual_seed(3)
    vit = TimeSformer(num_frames=1, shape=shape).state_dict()
    state = {
        name: torch.randn_like(value)
        for name, value in vit.items()
        if "temporal" not in name and name != "time_embed"
    }
    backbone = TimeSformer(num_frames=4, shape=shape)
    backbone.load_state_dict(_from_timm(state, backbone))
    found = backbone.state_dict()
    for name in state:
        assert torch.equal(found[name], state[name])
    assert torch.equal(
        found["blocks.0.temporal_attn.qkv.weight"], state["blocks.0.attn.qkv.weight"]
    )
    assert torch.equal(found["blocks.0.temporal_norm1.bias"], state["blocks.0.norm1.bias"])
    assert not found["blocks.0.temporal_fc.weight"].any()
    assert found["time_embed"].shape == (1, 4, 24)
