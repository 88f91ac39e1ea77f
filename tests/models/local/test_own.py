"""The local features that come with Whence: their file, their card, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from conftest import draw_place
from whence.errors import BadOption, MissingWeights, UnreadableWeights
from whence.models.cards.local import OWN_FEATURES
from whence.models.cards.text import CARD_FIELD, card_to_text, read_card
from whence.models.checkpoints.origins import find_weights
from whence.models.local.own import open_own_features
from whence.models.local.sift import LocalDescriptors


def test_the_file_comes_along_small_and_with_its_card() -> None:
    file = find_weights(OWN_FEATURES)
    assert file is not None
    assert file.stat().st_size < 4_000_000
    assert read_card(file) == OWN_FEATURES
    assert OWN_FEATURES.is_permissive
    assert OWN_FEATURES.limits
    assert OWN_FEATURES.figures


def test_points_lie_on_the_image_whatever_its_size_and_do_not_depend_on_colour_alone() -> None:
    extractor = open_own_features(max_keypoints=200)
    for width, height in ((160, 120), (131, 97), (48, 33)):
        image = draw_place(3, width=width, height=height)
        found = extractor.extract(image)
        assert found.image_size_px == (width, height)
        assert (found.keypoints >= 0).all()
        assert (found.keypoints <= np.array([width - 1, height - 1])).all()
        np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert len(extractor.extract(np.zeros((12, 40), np.uint8)).keypoints) == 0
    grey = draw_place(3, width=160, height=120)[..., 0]
    same = [
        extractor.extract(one).keypoints for one in (grey, np.repeat(grey[..., None], 3, axis=2))
    ]
    assert np.array_equal(*same)
    again = LocalDescriptors.from_arrays(extractor.extract(grey).to_arrays())
    np.testing.assert_allclose(again.descriptors, extractor.extract(grey).descriptors, atol=1e-3)


def test_a_shift_by_whole_cells_moves_the_points_alike() -> None:
    image = draw_place(4, width=256, height=192)
    extractor = open_own_features(max_keypoints=100)
    whole, part = extractor.extract(image), extractor.extract(np.ascontiguousarray(image[16:, 32:]))
    moved = part.keypoints + np.array([32, 16])
    gaps = np.linalg.norm(whole.keypoints[:, None] - moved[None], axis=2)
    assert (gaps.min(axis=0) < 1).mean() > 0.6


def test_what_is_no_file_of_local_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights):
        open_own_features(weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(BadOption, match="at least one keypoint"):
        open_own_features(max_keypoints=0)
    other = tmp_path / "other.safetensors"
    save_file(
        {"fc.weight": np.zeros((3, 3), np.float32)}, other, {CARD_FIELD: card_to_text(OWN_FEATURES)}
    )
    with pytest.raises(UnreadableWeights, match="no network of local features"):
        open_own_features(weights=str(other))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights at all")
    with pytest.raises(UnreadableWeights):
        open_own_features(weights=str(broken))
