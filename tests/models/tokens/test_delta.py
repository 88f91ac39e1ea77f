"""DeltaTok and DeltaWorld against golden values, official names and what follows from their
definitions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file

from fills import fill, image_of
from whence.errors import BadOption, WeightsMismatch
from whence.models.tokens.blocks import image_turns, patch_coordinates, time_turns, turned
from whence.models.tokens.delta import DeltaTok, TokenShape, load_official_tokens, token_cost
from whence.models.tokens.world import (
    DeltaWorld,
    WorldShape,
    best_of_many,
    causal_mask,
    compare,
    forecast_all,
    load_official_world,
    roll_out,
    world_multiplies,
)

TINY = {"dim": 64, "num_heads": 4, "depth": 2, "hidden": 128}
FRAMES = (2, 16, 64)
SMALL_WORLD = WorldShape(dim=64, width=64, num_heads=4, depth=2)


def tiny(**changes: object) -> DeltaTok:
    tokens = DeltaTok(TokenShape(**{**TINY, **changes})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        fill(tokens)
    return tokens


def tiny_world() -> DeltaWorld:
    world = DeltaWorld(SMALL_WORLD).eval()
    with torch.no_grad():
        fill(world)
    return world


@pytest.mark.parametrize(
    ("changes", "sizes", "first", "total", "decoded", "last", "whole"),
    [
        (
            {},
            (135_544, 96),
            (-1.363981, -0.743701, -1.553893, -1.405460, 1.594346, 1.454577),
            -0.95087,
            (-1.027466, -0.672876, -0.570550, -0.110715),
            -0.375889,
            10.12468,
        ),
        (
            {"is_release": False},
            (134_464, 72),
            (-0.002511, -0.911072, -0.334684, -1.356527, 0.276657, 0.899206),
            1.79328,
            (-0.529078, -1.123145, -0.586519, -0.106753),
            -0.228863,
            29.36185,
        ),
        (
            {"is_delta": False},
            (135_544, 96),
            (-1.376815, -0.503649, -1.622104, -1.497443, 1.509602, 1.411897),
            -0.96899,
            (-0.228710, -0.319622, -0.174704, -0.096245),
            -0.311182,
            -32.49359,
        ),
    ],
    ids=["release", "plain", "frame token"],
)
@torch.no_grad()
def test_golden_tokens(changes, sizes, first, total, decoded, last, whole) -> None:
    tokens = tiny(**changes)
    assert (sum(p.numel() for p in tokens.parameters()), len(tokens.state_dict())) == sizes
    previous, current = image_of(FRAMES), image_of(FRAMES, 1001)
    z = tokens.encode(previous, current)
    made = tokens.decode(z, previous)
    torch.testing.assert_close(z[0, :6], torch.tensor(first), atol=2e-4, rtol=0)
    assert float(z[0].sum()) == pytest.approx(total, abs=2e-3)
    torch.testing.assert_close(made[0, 0, :4], torch.tensor(decoded), atol=2e-4, rtol=0)
    assert float(made[-1, -1, -1]) == pytest.approx(last, abs=2e-4) or float(
        made[0, -1, -1]
    ) == pytest.approx(last, abs=2e-4)
    assert float(made[0].sum()) == pytest.approx(whole, abs=5e-3)


@torch.no_grad()
def test_golden_error_of_the_release() -> None:
    tokens = tiny()
    previous, current = image_of(FRAMES), image_of(FRAMES, 1001)
    made = tokens.decode(tokens.encode(previous, current), previous)
    assert float((made - current).square().mean()) == pytest.approx(0.371448, abs=1e-4)
    apart = (made - current).abs()
    log_cosh = apart + torch.nn.functional.softplus(-2 * apart) - math.log(2)
    assert float(log_cosh.mean()) == pytest.approx(0.136579, abs=1e-4)


@torch.no_grad()
def test_decoding_begins_as_the_frame_before() -> None:
    torch.manual_seed(0)
    tokens = DeltaTok(TokenShape(**TINY)).eval()
    previous, current = image_of(FRAMES), image_of(FRAMES, 1001)
    assert (
        float((tokens.decode(tokens.encode(previous, current), previous) - previous).abs().max())
        < 1e-3
    )
    frame = DeltaTok(TokenShape(**TINY, is_delta=False)).eval()
    assert torch.equal(frame.encode(previous, current), frame.encode(current, current))


def test_golden_positions() -> None:
    turns = image_turns(patch_coordinates(4, 4), 16)
    first = torch.tensor([0, 0.080521, 0.891007, 0.988917])
    torch.testing.assert_close(turns.cos[0], first.repeat(4), atol=1e-5, rtol=0)
    sines = torch.tensor([1, -0.996753, -0.453991, -0.148468])
    torch.testing.assert_close(turns.sin[0], sines.repeat(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        turns.cos[5, :4], torch.tensor([0, 0.879146, 0.987688, 0.998767]), atol=1e-5, rtol=0
    )


def test_periods_in_time_go_from_a_hundredth_of_a_second_to_100() -> None:
    turns = time_turns(torch.tensor([[0.01, 100.0]]), 64)
    assert turns.cos.shape == (1, 2, 60)
    assert float(turns.cos[0, 0, 0]) == pytest.approx(1)
    assert float(turns.cos[0, 1, 29]) == pytest.approx(1)
    slow = time_turns(torch.tensor([[1 / (2 * math.pi)]]), 64)
    assert float(slow.sin[0, 0, 1]) == pytest.approx(math.sin(72.7895), abs=1e-4)
    with pytest.raises(BadOption, match="multiple"):
        time_turns(torch.zeros(1, 1), 15)


def test_official_files_fill_it_and_others_do_not(tmp_path: Path) -> None:
    with torch.device("meta"):
        assert len(DeltaTok(TokenShape()).state_dict()) == 556
        assert len(DeltaWorld(WorldShape()).state_dict()) == 196
    names = list(DeltaTok(TokenShape(**TINY)).state_dict())
    block = [name for name in names if name.startswith("encoder_blocks.1.")]
    assert block[:3] == [
        f"encoder_blocks.1.{name}"
        for name in ("norm1.weight", "norm1.bias", "attention.k_proj.weight")
    ]
    official = {f"network.{name}": value for name, value in tiny().state_dict().items()}
    save_file(
        {**official, "network.backbone.layer.weight": torch.zeros(2, 2)},
        tmp_path / "tokens.safetensors",
    )
    found = DeltaTok(TokenShape(**TINY))
    load_official_tokens(found, tmp_path / "tokens.safetensors")
    assert all(
        torch.equal(value, official[f"network.{name}"])
        for name, value in found.state_dict().items()
    )
    with pytest.raises(WeightsMismatch, match="q_norm"):
        load_official_tokens(
            DeltaTok(TokenShape(**TINY, is_release=False)), tmp_path / "tokens.safetensors"
        )
    save_file(tiny_world().state_dict(), tmp_path / "world.safetensors")
    filled = DeltaWorld(SMALL_WORLD)
    load_official_world(filled, tmp_path / "world.safetensors")
    assert torch.equal(filled.head.weight, tiny_world().head.weight)


def test_counts() -> None:
    cost = token_cost(TokenShape(), num_patches=256)
    assert cost.num_parameters == 170_380_320
    # Published, in additions and multiplications: 96.9e9 and 46.1e9 at 256 pixels; gates and norms
    # of the release come on top.
    assert 2 * cost.encode == pytest.approx(96.9e9, rel=0.01)
    assert 2 * cost.decode == pytest.approx(46.1e9, rel=0.01)
    with torch.device("meta"):
        world = DeltaWorld(WorldShape())
    assert sum(p.numel() for p in world.parameters()) == 85_665_024
    assert world_multiplies(WorldShape(), num_context=4) < 0.005 * cost.decode * 2
    assert (
        world_multiplies(SMALL_WORLD, num_context=4, per=16)
        > 16 * world_multiplies(SMALL_WORLD, num_context=4) / 2
    )


@torch.no_grad()
def test_golden_forecasts() -> None:
    world = tiny_world()
    queries, keys = 0.02 * image_of((2, 3, 64), 1003), image_of((2, 3, 64), 1004)
    times = torch.tensor([[0, 0.2, 0.45, 0.6], [0, 0.04, 0.1, 0.3]])
    found = world(
        queries, keys, query_times=times[:, 1:], context_times=times[:, :-1], mask=causal_mask(3)
    )
    torch.testing.assert_close(
        found[0, 0, :4], torch.tensor([-1.035543, 0.430858, -1.688914, 0.191390]), atol=2e-4, rtol=0
    )
    torch.testing.assert_close(
        found[0, 2, :4], torch.tensor([-1.640299, 0.168197, 0.086587, 1.992072]), atol=2e-4, rtol=0
    )
    assert float(found[-1, -1, -1]) == pytest.approx(0.441898, abs=2e-4)
    assert float(found.sum()) == pytest.approx(-50.53167, abs=1e-2)
    later = world(
        queries,
        keys,
        query_times=times[:, 1:] + 5,
        context_times=times[:, :-1] + 5,
        mask=causal_mask(3),
    )
    torch.testing.assert_close(later, found, atol=5e-4, rtol=0)
    changed = keys.clone()
    changed[:, 2] += 1
    seen = world(
        queries, changed, query_times=times[:, 1:], context_times=times[:, :-1], mask=causal_mask(3)
    )
    assert torch.equal(seen[:, :2], found[:, :2])
    assert not torch.equal(seen[:, 2], found[:, 2])


@torch.no_grad()
def test_golden_best_of_many() -> None:
    world = tiny_world()
    noise = 0.02 * image_of((2, 3, 4, 64), 1005)
    keys, came = image_of((2, 3, 64), 1004), image_of((2, 3, 64), 1006)
    times = torch.tensor([[0, 0.2, 0.45, 0.6], [0, 0.04, 0.1, 0.3]])
    tokens = torch.cat([keys, keys[:, :1]], dim=1)[:, :, None]
    found = compare(forecast_all(world, noise[:, :, :, None], tokens, times), came[:, :, None])
    expected = [
        [
            [1.186759, 1.159895, 1.141640, 1.187049],
            [1.136908, 1.166003, 1.085081, 1.139528],
            [1.220624, 1.143808, 1.163507, 1.172502],
        ],
        [
            [1.205495, 1.190023, 1.207560, 1.203481],
            [1.308893, 1.260359, 1.276734, 1.259316],
            [1.410724, 1.322460, 1.350492, 1.184176],
        ],
    ]
    torch.testing.assert_close(found.losses, torch.tensor(expected), atol=2e-4, rtol=0)
    assert found.winners.tolist() == [[2, 2, 1], [1, 3, 3]]


def test_only_the_nearest_forecast_learns() -> None:
    world = tiny_world()
    tokens, times = image_of((2, 4, 1, 64)), torch.tensor([[0, 0.1, 0.2, 0.3]] * 2)
    torch.manual_seed(3)
    loss, many = best_of_many(world, tokens, times, num_many=5)
    assert loss.requires_grad
    assert loss.item() == pytest.approx(float(many.losses.min(dim=-1).values.mean()), abs=1e-6)
    loss.backward()
    assert all(parameter.grad is not None for parameter in world.parameters())
    learned = DeltaWorld(WorldShape(dim=64, width=64, num_heads=4, depth=1, is_learned=True))
    assert best_of_many(learned, tokens, times, num_many=5)[1].losses.shape == (2, 3, 1)


def test_futures_see_their_own_past_and_places_count() -> None:
    world, tokens = tiny_world(), tiny()
    context, times = image_of((2, 3, 1, 64)), torch.arange(5.0)[None].expand(2, -1) / 10
    torch.manual_seed(1)
    found = roll_out(
        world, context, times, num_samples=4, tokens=tokens, last=image_of((2, 16, 64), 7)
    )
    assert found.tokens.shape == (2, 4, 2, 1, 64)
    assert found.features.shape == (2, 4, 2, 16, 64)
    second = tokens.decode(found.tokens[0, 1, 1], found.features[0, 1, :1])
    torch.testing.assert_close(second[0], found.features[0, 1, 1], atol=1e-5, rtol=1e-5)
    patches, places = image_of((2, 3, 16, 64)), patch_coordinates(4, 4)
    spread = roll_out(world, patches, times, num_samples=2, places=places)
    assert spread.features.shape == (2, 2, 2, 16, 64)
    assert not torch.allclose(spread.features[0, 0, 0, 0], spread.features[0, 0, 0, 5], atol=1e-3)
    # Without tokens a forecast is of all patches, and nothing is decoded after the last frame.
    torch.manual_seed(5)
    free = roll_out(world, patches, times, num_samples=2, places=places)
    torch.manual_seed(5)
    told = roll_out(world, patches, times, num_samples=2, places=places, last=patches[:, -1])
    assert torch.equal(told.features, free.features)
    assert torch.equal(told.features, told.tokens)


def test_turning_keeps_lengths() -> None:
    vectors = image_of((3, 5, 16))
    moved = turned(vectors, time_turns(torch.arange(5.0), 16))
    torch.testing.assert_close(moved.norm(dim=-1), vectors.norm(dim=-1))
    assert torch.equal(moved[..., 12:], vectors[..., 12:])
