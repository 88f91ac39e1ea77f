"""GeoWarp's weights: the published key lists load strictly, by name from the cache and by file;
what does not fit is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from whence.models.checkpoints.files import weights_digest

torch = pytest.importorskip("torch")

from conftest import draw_place, view_of
from fills import misfits
from whence.errors import BadOption, MissingWeights, UnknownName, UnreadableWeights, WeightsMismatch
from whence.models.warp.model import Regressor
from whence.models.warp.torch_engine import load_regressor
from whence.models.zoo import network_for
from whence.registry import SCORERS, build, get_card

CHANNELS = {"alexnet": 256, "vgg16": 512, "resnet50conv4": 1024}
PUBLISHED = tuple(
    f"geowarp-{method}-{backbone}" for method in ("gem", "netvlad") for backbone in CHANNELS
)


@pytest.fixture(autouse=True)
def cache(cache: Path) -> Path:
    """A cache of its own, and no network."""
    cache.mkdir(parents=True)
    return cache


def moved_regressor(seed: int = 0) -> Regressor:
    torch.manual_seed(seed)
    regressor = Regressor().eval()
    torch.nn.init.normal_(regressor.linear.weight, std=0.05)
    return regressor


def published_network(card_name: str) -> dict[str, torch.Tensor]:
    """A state dict with the keys the authors use, of random weights."""
    card = get_card(card_name)
    torch.manual_seed(1)
    theirs = {}
    for name, value in network_for(card).state_dict().items():
        part, _, rest = name.partition(".")
        if part == "aggregator":
            theirs["pool.1.p" if rest == "p" else f"pool.{rest}"] = value
        elif card.backbone.startswith("resnet"):
            stage, _, inner = rest.partition(".")
            number = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6}[stage]
            theirs[f"encoder.{number}.{inner}"] = value
        else:
            theirs[f"encoder.{rest.removeprefix('features.')}"] = value
    return theirs


@pytest.mark.parametrize(
    ("backbone", "num_keys"),
    [("alexnet", (11, 12)), ("vgg16", (27, 28)), ("resnet50conv4", (259, 260))],
)
def test_the_key_lists_are_the_published_ones(backbone: str, num_keys: tuple[int, int]) -> None:
    for method, expected in zip(("gem", "netvlad"), num_keys, strict=True):
        dim = CHANNELS[backbone] * (64 if method == "netvlad" else 1)
        keys = published_network(f"{method}-{backbone}-{dim}-geowarp")
        assert len(keys) == expected
        assert tuple(keys["encoder.0.weight"].shape)[:2] == (64, 3)
    assert {tuple(keys["pool.centroids"].shape), tuple(keys["pool.conv.weight"].shape)} == {
        (64, CHANNELS[backbone]),
        (64, CHANNELS[backbone], 1, 1),
    }


def test_every_published_pair_is_a_scorer() -> None:
    assert set(PUBLISHED) | {"geowarp", "geowarp-resnet18conv4"} == {
        name for name in SCORERS if name.startswith("geowarp")
    }
    for name in PUBLISHED:
        card = get_card(name, kind="scorer")
        network = get_card(SCORERS[name].options["made_for"])
        assert network.backbone == card.backbone
        assert not card.counts_inliers
        assert card.origins[0].source_file.startswith("trained_homography_regressions/")
    assert len({get_card(name, kind="scorer").origins[0].file for name in PUBLISHED}) == 6
    with pytest.raises(UnknownName, match="geowarp-gem-vgg16"):
        get_card("geowarp-gem-vgg", kind="scorer")


def test_by_name_from_the_cache(cache: Path) -> None:
    regressor = moved_regressor()
    file = cache / "geowarp_regression_alexnet_gem.pth"
    torch.save({f"module.{name}": value for name, value in regressor.state_dict().items()}, file)
    torch.save(published_network("gem-alexnet-256-geowarp"), cache / "geowarp_alexnet_gem.pth")
    scorer = build("scorer", "geowarp-gem-alexnet")
    assert scorer.engine.model.sampling == "legacy"
    assert scorer.engine.model.backbone.name == "alexnet"
    assert weights_digest(scorer.engine.model.regressor) == weights_digest(regressor)
    images = [view_of(draw_place(0), shift=shift, seed=shift, size=(160, 128)) for shift in (0, 10)]
    found = next(scorer.score(scorer.prepare(images[0]), [scorer.prepare(images[1])]))
    assert np.isfinite(found.similarity)


def test_by_file_with_another_backbone(tmp_path: Path) -> None:
    torch.save(moved_regressor().state_dict(), tmp_path / "mine.pth")
    card = get_card("gem-resnet18conv4-256-pitts30k")
    torch.manual_seed(2)
    network = network_for(card)
    state = {
        name.replace("aggregator.p", "aggregation.1.p"): value
        for name, value in network.state_dict().items()
    }
    torch.save(state, tmp_path / "network.pth")
    options = {
        "weights": str(tmp_path / "mine.pth"),
        "model": card.name,
        "model_weights": str(tmp_path / "network.pth"),
    }
    scorer = build(
        "scorer", "geowarp", options={**options, "readout": "exact", "long_side_px": 320}
    )
    assert scorer.engine.model.sampling == "exact"
    assert scorer.options.readout == "exact"
    assert weights_digest(scorer.engine.model.backbone) == weights_digest(network.backbone)
    assert (
        build("scorer", "geowarp", options={**options, "sampling": "legacy"}).engine.model.sampling
        == "legacy"
    )
    with pytest.raises(BadOption, match="weights=FILE"):
        build("scorer", "geowarp", options={"model": card.name})
    with pytest.raises(BadOption, match="legacy"):
        build("scorer", "geowarp", options={**options, "sampling": "other"})
    with pytest.raises(BadOption, match="dtype"):
        build("scorer", "geowarp", options={**options, "dtype": "float8"})
    with pytest.raises(BadOption, match="readout"):
        build("scorer", "geowarp", options={**options, "readout": "best"})


def test_missing_weights_say_where_they_go(cache: Path) -> None:
    with pytest.raises(MissingWeights, match="geowarp_regression_vgg16_netvlad"):
        build("scorer", "geowarp-netvlad-vgg16")
    torch.save(moved_regressor().state_dict(), cache / "geowarp_regression_vgg16_netvlad.pth")
    with pytest.raises(MissingWeights, match="geowarp_vgg16_netvlad"):
        build("scorer", "geowarp-netvlad-vgg16")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = moved_regressor().state_dict()
    for what, tensors in misfits(state).items():
        file = tmp_path / f"{what}.pth"
        torch.save(tensors, file)
        regressor = Regressor()
        before = weights_digest(regressor)
        with pytest.raises((WeightsMismatch, UnreadableWeights), match=what):
            load_regressor(regressor, file)
        assert weights_digest(regressor) == before
    with pytest.raises(WeightsMismatch):
        load_regressor(Regressor((7, 7)), _saved(tmp_path, state))
    with zipfile.ZipFile(tmp_path / "no.pth", "w") as archive:
        archive.writestr("note.txt", "nothing")
    with pytest.raises(UnreadableWeights):
        load_regressor(Regressor(), tmp_path / "no.pth")


def _saved(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, folder / "whole.pth")
    return folder / "whole.pth"


def test_a_published_file_loads_as_it_was(tmp_path: Path) -> None:
    regressor, other = moved_regressor(3), Regressor()
    file = _saved(tmp_path, regressor.state_dict())
    load_regressor(other, file)
    assert all(
        torch.equal(a, b)
        for a, b in zip(regressor.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert weights_digest(other) != weights_digest(moved_regressor(4))
