"""Learned matchers: the contract with random weights, the libraries' own calls, and how weights are
asked for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kornia")

from conftest import draw_place
from matcher_samples import check_matcher, warped_pair
from whence.cards import KNOWN_LICENCES
from whence.errors import (
    BadOption,
    MissingExtra,
    MissingWeights,
    UnknownName,
    UnreadableWeights,
    WeightsMismatch,
)
from whence.matching.cards import parts_of_matcher
from whence.matching.matchers import MatchOptions, MutualNearest, match_images
from whence.models.cards.local import PARTS, PARTS_OF
from whence.models.checkpoints import origins as downloads
from whence.models.local.networks import LearnedExtractor, make_networks, open_extractor
from whence.models.local.pairing import (
    DensePairing,
    LightGluePairing,
    _as_kornia_names,
    make_dense,
    make_lightglue,
)
from whence.models.local.sift import LocalDescriptors
from whence.registry import MATCHERS, build, get_card

SMALL = ("disk", "aliked", "xfeat", "keynet")
WEIGHTS = (downloads.weights_folder(), Path(os.environ.get("WHENCE_TEST_WEIGHTS", "/nowhere")))
"""Where trained weights may lie on this machine, before the tests' own cache hides them."""


@pytest.fixture(scope="module")
def real_weights() -> Path:
    """The folder with the shared files of weights."""
    named = os.environ.get("WHENCE_TEST_WEIGHTS")
    if not named or not (Path(named) / "aliked-n16.pth").is_file():
        pytest.skip(
            "WHENCE_TEST_WEIGHTS names no folder with aliked-n16.pth: trained weights are not tried"
        )
    return Path(named)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and no way to fill it."""
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WHENCE_OFFLINE", "true")
    monkeypatch.setattr(
        torch.hub,
        "load_state_dict_from_url",
        lambda *a, **k: pytest.fail("a constructor downloads"),
    )


def extractor(name: str, *, max_keypoints: int = 120) -> LearnedExtractor:
    torch.manual_seed(0)
    return LearnedExtractor(name, make_networks(name), max_keypoints=max_keypoints)


@pytest.mark.parametrize("name", SMALL)
def test_extractors_with_random_weights(name: str) -> None:
    check_matcher(MutualNearest(extractor(name), 1.0), is_trained=False, scale=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dedode", "superpoint"])
def test_large_extractors_with_random_weights(name: str) -> None:
    if name == "superpoint":
        pytest.importorskip("transformers")
    check_matcher(MutualNearest(extractor(name), 1.0), is_trained=False, scale=0.4)


def test_adaptive_lightglue_with_random_weights() -> None:
    torch.manual_seed(0)
    network = make_lightglue("aliked", is_adaptive=True)
    assert network.conf.depth_confidence > 0
    assert make_lightglue("aliked").conf.depth_confidence < 0
    check_matcher(
        LightGluePairing(
            "aliked", extractor("aliked", max_keypoints=40), network, is_adaptive=True
        ),
        is_trained=False,
        scale=0.5,
    )


@pytest.mark.parametrize("name", ["aliked", "xfeat", "keynet"])
def test_lightglue_with_random_weights(name: str) -> None:
    torch.manual_seed(0)
    check_matcher(
        LightGluePairing(name, extractor(name, max_keypoints=40), make_lightglue(name)),
        is_trained=False,
        scale=0.5,
    )


def test_sift_lightglue_with_random_weights() -> None:
    from whence.models.local.sift import RootSift

    torch.manual_seed(0)
    check_matcher(
        LightGluePairing("sift", RootSift(40, is_upright=False), make_lightglue("sift")),
        is_trained=False,
        scale=0.5,
    )


def test_loftr_with_random_weights() -> None:
    torch.manual_seed(0)
    check_matcher(DensePairing("loftr", make_dense("loftr")), is_trained=False, scale=0.3)


@pytest.mark.slow
def test_efficient_loftr_with_random_weights() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    check_matcher(DensePairing("eloftr", make_dense("eloftr")), is_trained=False, scale=0.3)


def test_disk_is_the_librarys_own() -> None:
    one, image = extractor("disk"), draw_place(3, width=128, height=96)
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        theirs = one.networks["disk"](pixels, n=120, pad_if_not_divisible=True)[0]
    ours = one.extract(image)
    assert np.array_equal(ours.keypoints, theirs.keypoints.numpy())
    unit = theirs.descriptors / theirs.descriptors.norm(dim=1, keepdim=True)
    assert np.allclose(ours.descriptors, unit.numpy(), atol=1e-6)


def test_lightglue_is_the_librarys_own() -> None:
    torch.manual_seed(1)
    one, network = extractor("aliked", max_keypoints=50), make_lightglue("aliked").eval()
    image0, image1, _ = warped_pair(scale=0.4)
    pairing = LightGluePairing("aliked", one, network)
    network.conf.filter_threshold = 0.0
    arrays = [pairing.prepare(image) for image in (image0, image1)]
    found = next(pairing.match(arrays[0], [arrays[1]]))
    assert found is not None
    sides = [LocalDescriptors.from_arrays(one) for one in arrays]
    given = {
        f"image{i}": {
            "keypoints": torch.from_numpy(side.keypoints)[None],
            "descriptors": torch.from_numpy(side.descriptors)[None],
            "image_size": torch.tensor([side.image_size_px], dtype=torch.float32),
        }
        for i, side in enumerate(sides)
    }
    with torch.inference_mode():
        theirs = network(given)["matches"][0].numpy()
    assert len(theirs) > 0
    assert np.array_equal(found.points0, sides[0].keypoints[theirs[:, 0]])
    assert np.array_equal(found.points1, sides[1].keypoints[theirs[:, 1]])


def test_loftr_is_the_librarys_own() -> None:
    torch.manual_seed(0)
    network = make_dense("loftr").eval()
    network.coarse_matching.thr = 0.0
    image0, image1 = (draw_place(seed, width=96, height=64) for seed in (1, 2))
    pairing = DensePairing("loftr", network)
    arrays = [pairing.prepare(image) for image in (image0, image1)]
    found = next(pairing.match(arrays[0], [arrays[1]]))
    assert found is not None
    with torch.inference_mode():
        tensors = {
            f"image{i}": torch.from_numpy(one["grey"])[None, None].float() / 255
            for i, one in enumerate(arrays)
        }
        theirs = network(tensors)
    kept = ((theirs["keypoints0"] >= -0.5) & (theirs["keypoints1"] >= -0.5)).all(dim=1)
    assert len(found.points0) <= int(kept.sum())
    rows = {
        tuple(np.round(row, 4))
        for row in torch.cat([theirs["keypoints0"], theirs["keypoints1"]], 1).numpy().tolist()
    }
    assert {tuple(np.round(row, 4)) for row in np.c_[found.points0, found.points1].tolist()} <= rows


def test_images_of_one_size_are_described_together() -> None:
    one = extractor("disk", max_keypoints=60)
    images = [draw_place(seed, width=96, height=64) for seed in range(3)] + [
        draw_place(9, width=64, height=96)
    ]
    for alone, together in zip(
        (one.extract(image) for image in images), one.extract_each(images), strict=True
    ):
        assert alone.image_size_px == together.image_size_px
        assert np.allclose(alone.keypoints, together.keypoints)
        assert np.allclose(alone.descriptors, together.descriptors, atol=1e-4)


def test_learned_descriptors_are_kept_as_half_floats() -> None:
    arrays = extractor("aliked").extract(draw_place(3, width=128, height=96)).to_arrays()
    assert arrays["descriptors"].dtype == np.float16
    back = LocalDescriptors.from_arrays(arrays)
    assert back.packing == "float16"
    assert np.allclose(np.linalg.norm(back.descriptors, axis=1), 1, atol=1e-6)


def test_trained_aliked(real_weights: Path) -> None:
    matcher = build(
        "matcher", "aliked-mnn", options={"weights": str(real_weights), "max_keypoints": 600}
    )
    check_matcher(matcher)
    image0, image1, _ = warped_pair()
    found = match_images(
        image0,
        image1,
        options=MatchOptions(matcher="aliked-mnn", weights=str(real_weights / "aliked-n16.pth")),
    )
    assert found.num_inliers > 40


@pytest.mark.parametrize(
    "name",
    [
        "disk-lightglue",
        "aliked-lightglue",
        "aliked-n16rot-lightglue",
        "aliked-n32-lightglue",
        "aliked-t16-mnn",
    ],
)
def test_files_of_the_package_index_fill_the_networks(name: str, tmp_path: Path) -> None:
    """Every tensor of each released file fits, none is missing, and a warped picture is found
    again."""
    for part in parts_of_matcher(name):
        files = [
            folder / origin.file
            for folder in WEIGHTS
            for origin in part.origins
            if origin.kind == "package"
        ]
        there = next((file for file in files if file.is_file()), None)
        if there is None:
            pytest.skip(
                f"{files[0].name} is not on this machine: whence models --fetch {part.name}"
            )
        (tmp_path / there.name).symlink_to(there)
    check_matcher(build("matcher", name, options={"weights": str(tmp_path), "max_keypoints": 400}))


@pytest.mark.parametrize("name", ["aliked-lightglue", "disk-lightglue"])
def test_lightglue_as_a_scorer_of_its_own(name: str, tmp_path: Path) -> None:
    for part in parts_of_matcher(name):
        module = (
            make_networks(part.name)[part.name]
            if part.name in PARTS_OF
            else make_lightglue(name.partition("-")[0])
        )
        torch.save(module.state_dict(), tmp_path / part.origins[0].file)
    card = get_card(name, kind="scorer")
    assert card.counts_inliers
    assert card.preprocessing.long_side_px == 512
    assert card.weights_licence == get_card(name, kind="matcher").weights_licence
    scorer = build("scorer", name, options={"weights": str(tmp_path), "max_keypoints": 60})
    image0, image1, _ = warped_pair(scale=0.4)
    query, other = scorer.prepare(image0), scorer.prepare(image1)
    found = list(scorer.score(query, iter([other, None, other])))
    assert [one is None for one in found] == [False, True, False]
    exact = build(
        "scorer",
        name,
        options={"weights": str(tmp_path), "max_keypoints": 60, "is_adaptive": False},
    )
    assert exact.key != scorer.key
    assert exact.key.split("/")[0] == scorer.key.split("/")[0], (
        "what is kept of a photo is the same"
    )
    own = {f"{name}.weights": str(tmp_path), f"{name}.max_keypoints": 60}
    chain = build("scorer", f"inliers:4,{name}:2", options={"options": own})
    assert chain.scorers[1].key == scorer.key


@pytest.mark.parametrize("kind", ["matcher", "scorer"])
def test_without_weights_or_packages_it_says_what_to_do(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingWeights, match="whence models --fetch aliked "):
        build(kind, "aliked-lightglue")
    for package in ("kornia", "torch"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            patch.delitem(sys.modules, "kornia.feature", raising=False)
            patch.delitem(sys.modules, "whence.models.local.pairing", raising=False)
            patch.delitem(sys.modules, "whence.models.local.networks", raising=False)
            with pytest.raises(MissingExtra, match=r"whence-vpr\[matchers\]"):
                build(kind, "aliked-lightglue")


@pytest.mark.real
def test_trained_aliked_on_a_real_pair(real_weights: Path, real_data: Path) -> None:
    """A published pair, 20 degrees apart: the corners of the first image go to within 5 pixels of
    where they belong."""
    folder = real_data / "oxford-graf"
    options = MatchOptions(
        matcher="aliked-mnn", weights=str(real_weights), long_side_px=480, max_keypoints=1000
    )
    found = match_images(folder / "img1.png", folder / "img2.png", options=options)
    truth = np.loadtxt(folder / "H1to2p")
    assert found.matrix is not None
    assert found.num_inliers > 100
    width, height = found.size0_px
    grid = np.stack(
        np.meshgrid(np.linspace(0, width - 1, 8), np.linspace(0, height - 1, 8)), axis=-1
    ).reshape(1, -1, 2)
    gap = cv2.perspectiveTransform(grid, truth) - cv2.perspectiveTransform(grid, found.matrix)
    assert np.linalg.norm(gap[0], axis=1).mean() < 5


def test_a_missing_file_says_which_goes_where() -> None:
    without = ("rootsift-mnn", "orb-mnn", "orientation", "whence-local")
    learned = {name: entry for name, entry in MATCHERS.items() if name not in without}
    assert len(learned) > 10
    for name, entry in learned.items():
        with pytest.raises(MissingWeights) as error:
            build("matcher", name)
        first = next(
            part for part in parts_of_matcher(name) if downloads.packaged_file(part) is None
        )
        assert first.origins[0].file in str(error.value)
        assert str(downloads.weights_folder()) in str(error.value)
        assert entry.card is not None
    with pytest.raises(UnknownName, match="aliked-lightglue"):
        build("matcher", "aliked-lightglu")
    with pytest.raises(BadOption, match="no option"):
        build("matcher", "loftr", options={"max_keypoints": 3})
    with pytest.raises(BadOption, match="disk"):
        make_networks("risk")
    with pytest.raises(BadOption, match="eloftr"):
        make_dense("doftr")


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    other = make_networks("xfeat")["xfeat"].state_dict()
    torch.save(other, tmp_path / "aliked-n16.pth")
    with pytest.raises(WeightsMismatch, match="aliked"):
        open_extractor("aliked", weights=str(tmp_path))
    (tmp_path / "aliked-n16.pth").write_bytes(b"text")
    with pytest.raises(UnreadableWeights):
        open_extractor("aliked", weights=str(tmp_path))
    with pytest.raises(MissingWeights, match=re.escape("depth-save.pth")):
        open_extractor("disk", weights=str(tmp_path))


def as_published(part: str, state: Mapping[str, object]) -> object:
    """A state as the authors' files nest it."""
    if part == "disk":
        return {"extractor": state}
    if part in ("keynet", "affnet", "orinet", "hardnet"):
        return {"state_dict": state}
    return state


@pytest.mark.parametrize("name", ["disk", "keynet", "xfeat"])
def test_files_as_published_are_read(name: str, tmp_path: Path) -> None:
    networks = make_networks(name)
    for part in PARTS_OF[name]:
        torch.save(
            as_published(part, networks[part].state_dict()), tmp_path / PARTS[part].origins[0].file
        )
    opened = open_extractor(name, weights=str(tmp_path), max_keypoints=120)
    assert opened.key == LearnedExtractor(name, networks, max_keypoints=120).key


def test_released_names_of_lightglue(tmp_path: Path) -> None:
    network = make_lightglue("xfeat")
    old = {}
    for name, tensor in network.state_dict().items():
        theirs = re.sub(r"^transformers\.(\d+)\.(self_attn|cross_attn)\.", r"\2.\1.", name)
        assert _as_kornia_names(f"matcher.{theirs}") == name
        if name != "confidence_thresholds":
            old[f"matcher.{theirs}"] = tensor
    # The released file for DISK holds nine ones that nothing reads.
    old["log_assignment.0.r"] = torch.ones(1)
    torch.save(old, tmp_path / "xfeat-lighterglue.pt")
    torch.save(make_networks("xfeat")["xfeat"].state_dict(), tmp_path / "xfeat.pt")
    options = {"weights": str(tmp_path), "max_keypoints": 50}
    opened = build("matcher", "xfeat-lightglue", options=options)
    assert opened.key.endswith(
        LightGluePairing("xfeat", opened.extractor, network).key.split("/")[1]
    )
    torch.save({**old, "log_assignment.0.s": torch.ones(1)}, tmp_path / "xfeat-lighterglue.pt")
    with pytest.raises(WeightsMismatch, match=r"log_assignment\.0\.s"):
        build("matcher", "xfeat-lightglue", options=options)


def test_cards_are_complete() -> None:
    for card in PARTS.values():
        assert card.licence in KNOWN_LICENCES
        assert card.weights_licence in KNOWN_LICENCES
        assert card.citation
        for origin in card.origins:
            form = {"package": r"[\w-]+==\d", "packaged": r"whence\.models"}.get(
                origin.kind, r"https://"
            )
            assert re.match(form, origin.address)
    for name in MATCHERS:
        card = get_card(name, kind="matcher")
        assert card.name == name
        assert card.summary
        assert all(part in KNOWN_LICENCES for part in card.weights_licence.split(" AND "))
