"""GeoWarp's model: golden numbers of the published one, and what must hold of any."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from fills import fill_by_place, fill_regressor, hashed
from whence.models.aggregators.pools import GeM
from whence.models.backbones import make_backbone
from whence.models.warp.model import (
    GeoWarp,
    Regressor,
    cell_similarities,
    match_both_orders,
    match_cells,
    pool_cells,
    to_unit,
)
from whence.models.warp.pairs import make_view_pairs
from whence.models.warp.quads import FRAME
from whence.models.warp.regressor import kernel_sizes


def test_the_fill_is_the_stated_one() -> None:
    assert hashed((6,)).numpy() == pytest.approx(
        [-1, -0.746668, -0.455673, 0.371208, -0.991909, 0.577624], abs=1e-6
    )
    assert hashed((3,), seed=1).numpy() == pytest.approx([-0.369306, 0.057698, -0.969706], abs=1e-6)


def test_unit_length_has_its_epsilon_inside_the_root() -> None:
    vectors = hashed((2, 5, 3), seed=4)
    slow = vectors / torch.sqrt((vectors**2).sum(dim=1, keepdim=True) + 1e-6)
    assert torch.allclose(to_unit(vectors), slow, atol=1e-7)
    tiny = torch.tensor([[1e-3, 0.0]])
    assert to_unit(tiny)[0, 0].item() == pytest.approx(0.5**0.5, abs=1e-6)
    zero = torch.zeros(1, 3, requires_grad=True)
    to_unit(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_matching_is_the_published_layout() -> None:
    first, second = hashed((1, 4, 2, 3), seed=1), hashed((1, 4, 2, 3), seed=2)
    found = match_cells(first, second)
    assert found.shape == (1, 6, 2, 3)
    assert found[0, :, 0, 0].numpy() == pytest.approx(
        [0.176599, 0.533105, 0.774249, 0.205280, 0, 0.207388], abs=1e-5
    )
    assert found[0, :, 0, 2].numpy() == pytest.approx(
        [0, 0.261359, 0, 0.660529, 0.597574, 0.371884], abs=1e-5
    )
    assert found[0, :, 1, 1].numpy() == pytest.approx(
        [0.511881, 0.382926, 0, 0, 0.732946, 0.232672], abs=1e-5
    )
    assert torch.dot(first[0, :, 1, 0], second[0, :, 0, 0]).item() == pytest.approx(
        0.856798, abs=1e-5
    )


def test_matching_against_the_slow_way_and_in_both_orders() -> None:
    first, second = hashed((3, 7, 4, 5), seed=3), hashed((3, 7, 4, 5), seed=9)
    slow = torch.zeros(3, 20, 4, 5)
    for row in range(4):
        for column in range(5):
            slow[:, column * 4 + row] = (
                (first[:, :, row, column, None, None] * second).sum(dim=1).clamp(min=0)
            )
    slow = slow / (slow.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(match_cells(first, second), slow, atol=1e-6)
    both = match_both_orders(first, second)
    assert torch.allclose(
        both, torch.cat([match_cells(first, second), match_cells(second, first)]), atol=1e-6
    )


def test_the_regressor_gives_the_published_numbers() -> None:
    regressor = Regressor().eval()
    assert sum(p.numel() for p in regressor.parameters()) == 2_335_376
    state = regressor.state_dict()
    assert len(state) == 44
    assert [tuple(state[f"conv.{i}.weight"].shape) for i in (0, 3, 6, 9)] == [
        (128, 225, 7, 7),
        (128, 128, 5, 5),
        (64, 128, 5, 5),
        (64, 64, 5, 5),
    ]
    fill_regressor(regressor)
    means = []
    for layer in regressor.conv:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _, __, out: means.append(out.mean().item()))
    with torch.inference_mode():
        quads = regressor(to_unit(hashed((1, 225, 15, 15), seed=3).relu()))
    assert means == pytest.approx(
        [0.068149, 0.074664, 0.081052, 0.105699, 0.106530, 0.083604], abs=1e-5
    )
    first = [-1.043821, -0.996439, 0.998670, -0.987771, 1.071955, 1.067237, -1.019673, 1.010517]
    second = [-1.017192, -1.036751, 0.968984, -1.050312, 1.046032, 1.024711, -0.942294, 1.015978]
    assert quads.flatten().numpy() == pytest.approx([*first, *second], abs=1e-4)


def test_end_to_end_the_published_numbers() -> None:
    model = GeoWarp(make_backbone("alexnet"), sampling="legacy").eval()
    fill_by_place(model.backbone)
    fill_regressor(model.regressor)
    image = (
        hashed((1, 3, 15, 20), scale=1.5, seed=7)
        .repeat_interleave(16, dim=2)
        .repeat_interleave(16, dim=3)
    )
    other = image.roll(32, dims=3) + 0.2 * hashed((1, 3, 240, 320), seed=8)
    with torch.inference_mode():
        features = model.backbone(image)
        maps = features.map
        assert maps.shape == (1, 256, 14, 19)
        assert maps.abs().mean().item() == pytest.approx(2.761357, abs=1e-4)
        assert maps[0, :3, 2, 3].numpy() == pytest.approx([1.80581, 3.32359, 0.32384], abs=1e-4)
        pooled = GeM(256, l2="before_pool")(features)[0]
        assert pooled[:4].numpy() == pytest.approx(
            [0.049868, 0.063488, 0.042991, 0.025492], abs=1e-5
        )
        assert pooled.norm().item() == pytest.approx(0.736079, abs=1e-4)
        first, second = pool_cells(maps), model.local(other)
        assert first[0, :3, 7, 4].numpy() == pytest.approx([0.046506, 0.038639, 0.030182], abs=1e-5)
        quads = model.predict(first, second)
        t1 = [-1.03525, -1.01471, 0.98912, -1.00984, 1.05508, 1.04214, -0.98939, 1.01678]
        t2 = [-1.03525, -1.01461, 0.98905, -1.00981, 1.05493, 1.04193, -0.98935, 1.01690]
        assert quads.first.flatten().numpy() == pytest.approx(t1, abs=1e-4)
        assert quads.second.flatten().numpy() == pytest.approx(t2, abs=1e-4)
        assert cell_similarities(first, second).sum().item() == pytest.approx(216.5030, abs=2e-3)
        for sampling, expected in (("legacy", 216.7138), ("exact", 216.6382)):
            model.sampling = sampling
            warped = [
                model.local(model.cut(x, t))
                for x, t in ((image, quads.first), (other, quads.second))
            ]
            assert cell_similarities(*warped).sum().item() == pytest.approx(expected, abs=2e-3)
            if sampling == "legacy":
                assert (warped[0] - warped[1]).square().mean().item() == pytest.approx(
                    0.00028772, abs=2e-7
                )


@pytest.mark.parametrize("num_cells", [1, 2, 7, 14, 15, 16, 24, 29])
def test_kernels_follow_the_grid(num_cells: int) -> None:
    side = num_cells
    for kernel in kernel_sizes(num_cells):
        side += 2 - kernel + 1
        assert side >= 1
    assert side == 1
    assert kernel_sizes(15) == (7, 5, 5, 5, 5, 5)


@pytest.mark.parametrize("grid", [(15, 15), (7, 7), (12, 16)])
def test_an_untrained_model_leaves_images_whole(grid: tuple[int, int]) -> None:
    model = GeoWarp(make_backbone("resnet18conv3"), grid=grid).eval()
    with torch.inference_mode():
        local = model.local(hashed((2, 3, 64, 96), seed=5))
        assert local.shape == (2, 128, *grid)
        quads = model.predict(local, local)
    for side in quads:
        assert torch.equal(side, torch.tensor(FRAME).expand(2, 4, 2))


@pytest.mark.parametrize("name", ["alexnet", "efficientnet_b0", "cct224", "dinov2_vits14_reg"])
def test_any_backbone_serves(name: str) -> None:
    model = GeoWarp(make_backbone(name)).eval()
    height, width = model.backbone.size_rule.nearest(100, 140)
    with torch.inference_mode():
        local = model.local(hashed((1, 3, height, width), seed=1))
        quads = model.predict(local, local)
        cut = model.local(model.cut(hashed((1, 3, height, width), seed=1), quads.first))
    assert local.shape == (1, model.backbone.channels, 15, 15)
    assert torch.allclose(cut, local, atol=1e-3)


def test_swapping_the_images_swaps_the_quadrilaterals() -> None:
    model = GeoWarp(make_backbone("resnet18conv2")).eval()
    fill_regressor(model.regressor)
    first, second = (to_unit(hashed((2, 6, 15, 15), seed=seed)) for seed in (11, 12))
    with torch.inference_mode():
        forth, back = model.predict(first, second), model.predict(second, first)
        alone = model.predict(first[:1], second)
    assert torch.allclose(forth.first, back.second, atol=1e-5)
    assert torch.allclose(forth.second, back.first, atol=1e-5)
    assert torch.allclose(alone.first[0], forth.first[0], atol=1e-5)
    assert (forth.first - torch.tensor(FRAME)).abs().max() > 1e-3


def test_the_targets_of_eight_images_can_be_learned() -> None:
    """The loss without labels (section 3.2 of the paper; mean squared error, both orders) falls to
    a tenth within 150 steps."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(
        torch.rand(8, 3, 8, 8, generator=generator), (64, 64), mode="bicubic"
    )
    pair = make_view_pairs(images, k=0.6, generator=generator)
    model = GeoWarp(make_backbone("resnet18conv2"), grid=(7, 7)).eval()
    with torch.no_grad():
        local_a, local_b = model.local(pair.images_a), model.local(pair.images_b)
    model.regressor.train()
    optimizer = torch.optim.Adam(model.regressor.parameters(), lr=2e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        forth, back = model.quads(local_a, local_b), model.quads(local_b, local_a)
        targets = (pair.quads_a, pair.quads_b, pair.quads_b, pair.quads_a)
        found = (*forth.split(4, 1), *back.split(4, 1))
        loss = sum(
            (quads - target).square().mean() for quads, target in zip(found, targets, strict=True)
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


def test_gradients_reach_the_regressor_through_the_warped_images() -> None:
    """What the feature-wise loss needs: from cells of the warped images, through the frozen
    backbone, to the regressor."""
    model = GeoWarp(make_backbone("resnet18conv2"), grid=(7, 7)).eval()
    model.backbone.requires_grad_(False)
    first, second = hashed((2, 3, 48, 64), seed=1), hashed((2, 3, 48, 64), seed=2)
    quads = model.predict(model.local(first), model.local(second))
    (
        model.local(model.cut(first, quads.first)) - model.local(model.cut(second, quads.second))
    ).square().mean().backward()
    gradient = model.regressor.linear.weight.grad
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    assert all(p.grad is None for p in model.backbone.parameters())
