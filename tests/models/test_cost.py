"""What networks cost: the numbers of the Deep Visual Geo-localization Benchmark, and the slow
count."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from whence import cli
from whence.models.aggregators.pools import GeM
from whence.models.backbones import make_backbone
from whence.models.cost import measure_cost
from whence.models.networks import Network

BENCHMARK = {
    "alexnet": (256, (29, 39), 2.47, 2.14, 8.6),
    "vgg16": (512, (30, 40), 14.71, 7.08, 187.9),
    "resnet18conv4": (256, (30, 40), 2.78, 2.10, 17.2),
    "resnet18conv5": (512, (15, 20), 11.18, 10.49, 22.2),
    "resnet50conv4": (1024, (30, 40), 8.54, 7.10, 40.1),
    "resnet50conv5": (2048, (15, 20), 23.51, 22.06, 50.1),
    "resnet101conv4": (1024, (30, 40), 27.54, 26.09, 85.6),
    "resnet101conv5": (2048, (15, 20), 42.50, 41.06, 95.5),
}
"""Channels, map, millions of parameters, of those that learn, GFLOPs; measured with the upstream
modules at 480 x 640, GeM."""


def test_the_command_counts_what_the_benchmark_counts(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (channels, map_size, num_parameters, num_trainable, gflops) in BENCHMARK.items():
        assert cli.run(["models", name, "--backbones", "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["backbone"], record["channels"]) == (name, channels)
        assert record["map_size"] == [channels, *map_size]
        assert record["num_parameters"] / 1e6 == pytest.approx(num_parameters, rel=0.01)
        assert record["num_trainable"] / 1e6 == pytest.approx(num_trainable, rel=0.01)
        assert record["flops"] / 1e9 == pytest.approx(gflops, rel=0.01)
        assert record["descriptor_bytes"] == 4 * channels


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        ("gem-alexnet-256-geowarp", "alexnet"),
        ("gem-vgg16-512-msls", "vgg16"),
        ("gem-resnet18conv4-256-msls", "resnet18conv4"),
        ("gem-resnet50conv4-1024-msls", "resnet50conv4"),
        ("gem-resnet101conv4-1024-msls", "resnet101conv4"),
    ],
)
def test_published_models_cost_what_the_benchmark_counts(
    model: str, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, num_parameters, _, gflops = BENCHMARK[backbone]
    assert cli.run(["models", model, "--cost", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["num_parameters"] / 1e6 == pytest.approx(num_parameters, rel=0.01)
    assert record["flops"] / 1e9 == pytest.approx(gflops, rel=0.01)


def test_backbones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "resnet18conv[24]", "--backbones"]) == 0
    shown = capsys.readouterr().out
    assert [f"resnet18conv{stage}" in shown for stage in (2, 3, 4, 5)] == [True, False, True, False]
    assert "30 x 40" in shown
    assert cli.run(["models", "cct384", "--backbones"]) == 0
    assert "384 x 384" in capsys.readouterr().out
    assert cli.run(["models", "dinov2_vits14", "--backbones"]) == 0
    assert "multiples of 14" in capsys.readouterr().out
    assert cli.run(["models", "timm:mobilenetv3_small_050", "--backbones", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stride"] == 32
    assert cli.run(["models", "resnet18conv6", "--backbones"]) == 1
    assert "resnet18conv5" in capsys.readouterr().err


def test_eighty_percent_of_the_side_is_sixty_four_percent_of_the_cost() -> None:
    # Berton et al., CVPR 2022: 17.2 to 11.0 GFLOPs.
    backbone = make_backbone("resnet18conv4")
    network = Network(backbone, GeM(256))
    small, whole = (measure_cost(network, size_px=size).flops for size in ((384, 512), (480, 640)))
    assert small / 1e9 == pytest.approx(11.0, rel=0.01)
    assert small / whole == pytest.approx(0.64, rel=1e-3)


def test_the_count_is_two_for_each_multiplication() -> None:
    backbone = make_backbone("resnet18conv3")
    network = Network(backbone, GeM(128))
    slow = 0

    def count(layer: nn.Conv2d, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal slow
        slow += 2 * output.numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(torch.zeros(1, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    assert measure_cost(network, size_px=(64, 96)).flops == slow


def test_measuring_leaves_the_network_alone() -> None:
    backbone = make_backbone("resnet18conv3")
    network = Network(backbone, GeM(128)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure_cost(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_costs_of_models_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "rootsift-vlad", "--cost", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "rootsift-vlad",
        "descriptor_bytes": 4 * 8192,
    }
    assert cli.run(["models", "*-resnet18conv4-*", "--cost", "--json"]) == 0
    records = {
        record["model"]: record for record in map(json.loads, capsys.readouterr().out.splitlines())
    }
    gem = next(
        record
        for name, record in records.items()
        if "gem" in name and record["size_px"] == [480, 640]
    )
    assert gem["flops"] / 1e9 == pytest.approx(17.2, rel=0.01)
    assert cli.run(["models", "*-resnet18conv4-*", "--cost"]) == 0
    assert "256 x 30 x 40" in capsys.readouterr().out
