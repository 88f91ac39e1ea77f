"""Patches of a network's map, against the same pooled by loops, and as a scorer on drawn places."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from matcher_samples import check_scorer
from whence.errors import BadOption, UnknownName
from whence.matching.scorers import PatchScorer
from whence.models.backbones import make_backbone
from whence.models.local.patches import PatchExtractor, open_patch_extractor
from whence.registry import build


@pytest.fixture(scope="module")
def extractor() -> PatchExtractor:
    return PatchExtractor(make_backbone("resnet18conv2"), sizes=(1, 2, 5, 40))


def test_patches_are_means_of_unit_cells(extractor: PatchExtractor) -> None:
    """Each level's patch is the mean of its cells' unit vectors, its centre that of its cells in
    pixels of the photo."""
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), np.uint8)
    kept = extractor.prepare(image)
    assert kept["map"].dtype == np.float16
    assert kept["map"].shape == (64, 16, 24)
    cells = kept["map"].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(cells, axis=0), 1, atol=2e-3)
    levels = extractor.patches(kept)
    assert [len(points) for points, _ in levels] == [16 * 24, 15 * 23, 12 * 20, 0]
    assert levels[-1][1].shape == (0, 64)
    for side, (points, descriptors) in zip(extractor.sizes[:-1], levels[:-1], strict=True):
        place = 0
        for row in range(16 - side + 1):
            for column in range(24 - side + 1):
                mean = cells[:, row : row + side, column : column + side].mean(axis=(1, 2))
                np.testing.assert_allclose(
                    descriptors[place], mean / np.linalg.norm(mean), atol=1e-5
                )
                # Four pixels a cell; the centre of the first pixel is 0.
                inside = [(4 * (column + k) + 1.5, 4 * (row + k) + 1.5) for k in range(side)]
                np.testing.assert_allclose(points[place], np.mean(inside, axis=0), atol=1e-4)
                place += 1


def test_the_key_names_sizes_and_weights(extractor: PatchExtractor) -> None:
    other = PatchExtractor(extractor.backbone, sizes=(2, 5))
    assert "resnet18conv2" in extractor.key
    assert other.key != extractor.key
    torch.manual_seed(1)
    changed = make_backbone("resnet18conv2")
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    assert PatchExtractor(changed, sizes=(2, 5)).key != other.key


def test_what_no_patch_is_made_of(extractor: PatchExtractor) -> None:
    for sizes in ((), (0, 2)):
        with pytest.raises(BadOption, match="at least one cell"):
            PatchExtractor(extractor.backbone, sizes=sizes)
    with pytest.raises(UnknownName):
        open_patch_extractor("no-such-network")
    with pytest.raises(BadOption, match="spatial"):
        build(
            "scorer",
            "patches",
            options={"model": "whence-resnet18conv4-gem-256", "spatial": "nearest"},
        )


@pytest.mark.parametrize("spatial", ["ransac", "rapid"])
def test_patches_of_trained_weights_find_the_right_candidate(spatial: str) -> None:
    scorer = build(
        "scorer", "patches", options={"model": "whence-resnet18conv4-gem-256", "spatial": spatial}
    )
    assert isinstance(scorer, PatchScorer)
    check_scorer(scorer)
