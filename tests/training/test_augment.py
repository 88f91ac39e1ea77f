"""Augmentation and decoded photos: what no strength changes, what follows from the seed, and the
aspect ratio that stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.data.scan import scan_photos
from whence.models.preprocessing import normalise
from whence.training.augment import Augment, transforms_of
from whence.training.options.augment import AugmentOptions
from whence.training.pixels import cached_pixels

ALL = AugmentOptions(
    width=64, height=48, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, perspective=0.3,
    crop=0.4, rotation_deg=10.0, grey_share=0.3, blur_share=0.3, erase_share=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return torch.randint(
        0, 256, (5, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_no_strength_is_the_identity(photos: torch.Tensor) -> None:
    changed = Augment(AugmentOptions(width=64, height=48))(photos, step=3)
    assert torch.equal(changed, normalise(photos))


def test_a_crop_of_no_strength_keeps_the_aspect_ratio() -> None:
    """The benchmark's trap: there a photo of 16:9 lost its sides even with a crop of 0."""
    wide = torch.zeros(1, 90, 160, 3, dtype=torch.uint8)
    wide[:, :, :8] = 255
    wide[:, :, -8:] = 255
    changed = Augment(AugmentOptions(width=160, height=90))(wide, step=0)
    assert torch.equal(changed, normalise(wide))
    squashed = Augment(AugmentOptions(width=80, height=90))(wide, step=0)
    assert bool((squashed[..., 0] > squashed[..., 40]).all()), "both edges are still there"
    assert bool((squashed[..., -1] > squashed[..., 40]).all())


def test_steps_come_in_the_benchmarks_order() -> None:
    names = [
        type(step).__name__
        for step in transforms_of(
            AugmentOptions(brightness=0.1, perspective=0.1, crop=0.1, rotation_deg=1.0)
        )
    ]
    assert names == [
        "ColorJitter",
        "RandomPerspective",
        "RandomResizedCrop",
        "RandomRotation",
        "Resize",
    ]
    assert [type(step).__name__ for step in transforms_of(AugmentOptions())] == ["Resize"]


def test_changes_follow_from_seed_step_and_number(photos: torch.Tensor) -> None:
    augment = Augment(ALL, seed=5)
    whole = augment(photos, step=2)
    state = torch.get_rng_state()
    assert torch.equal(augment(photos, step=2), whole)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers are touched"
    parts = [augment(photos[:2], step=2), augment(photos[2:], step=2, first=2)]
    assert torch.equal(torch.cat(parts), whole), "however the batch is shared"
    assert not torch.equal(augment(photos, step=3), whole)
    assert not torch.equal(augment(photos, step=2, batch=1), whole)
    assert not torch.equal(Augment(ALL, seed=6)(photos, step=2), whole)
    assert whole.shape == (5, 3, 48, 64)
    assert bool(whole.isfinite().all())


def test_mirroring_is_of_whole_batches(photos: torch.Tensor) -> None:
    augment = Augment(AugmentOptions(width=64, height=48, flip_share=0.5))
    plain, mirrored = normalise(photos), normalise(photos.flip(2))
    found = [augment(photos, step=step) for step in range(60)]
    is_plain = [torch.equal(one, plain) for one in found]
    assert all(
        torch.equal(one, mirrored)
        for one, is_same in zip(found, is_plain, strict=True)
        if not is_same
    )
    # 60 draws of one half: outside of 12 to 48 once in a million.
    assert 12 <= sum(is_plain) <= 48


def test_first_steps_may_be_small(photos: torch.Tensor) -> None:
    augment = Augment(
        AugmentOptions(width=64, height=48, small_width=32, small_height=24, small_steps=10)
    )
    assert augment(photos, step=9).shape == (5, 3, 24, 32)
    assert augment(photos, step=10).shape == (5, 3, 48, 64)


def test_photos_are_decoded_once(street: Path, tmp_path: Path) -> None:
    photos = scan_photos(street / "database")
    pixels = cached_pixels(photos, width=64, height=40, folder=tmp_path)
    assert pixels.shape == (24, 40, 64, 3)
    assert pixels.dtype == np.uint8
    for row in (0, 7, 23):
        whole = cv2.cvtColor(cv2.imread(str(photos.file(row))), cv2.COLOR_BGR2RGB)
        wanted = cv2.resize(whole, (64, 40), interpolation=cv2.INTER_AREA)
        assert np.abs(pixels[row].astype(int) - wanted).mean() < 6
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    assert np.array_equal(cached_pixels(photos, width=64, height=40, folder=tmp_path), pixels)
    assert file.stat().st_mtime_ns == stamp
    fewer = photos.select(np.arange(5))
    assert np.array_equal(cached_pixels(fewer, width=64, height=40, folder=tmp_path), pixels[:5])
    assert len(list(tmp_path.iterdir())) == 2, (
        "other photos and other sizes have files of their own"
    )
