"""How training photos are changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """How training photos are changed; 0 leaves each step out. Strengths as in torchvision."""

    width: int = 160
    """Pixels of the photos as the network sees them."""
    height: int = 120
    stored_width: int = 0
    """Pixels of the photos as they are kept decoded, larger where a crop is to lose no detail; 0
    for `width`."""
    stored_height: int = 0
    small_width: int = 0
    """Pixels of the photos in the first `small_steps` steps: what is coarse is learned first, at a
    fraction of the cost."""
    small_height: int = 0
    small_steps: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    perspective: float = 0.0
    """Distortion, with probability one half."""
    crop: float = 0.0
    """Largest share of the area that is cut away."""
    rotation_deg: float = 0.0
    grey_share: float = 0.0
    """Share of the photos that lose their colour."""
    blur_share: float = 0.0
    """Share of the photos that are blurred."""
    erase_share: float = 0.0
    """Share of the photos that lose a rectangle, as behind a van."""
    num_ops: int = 0
    """Operations that RandAugment (Cubuk et al., 2020) draws for each photo, after it was brought
    to its size ..."""
    magnitude: int = 9
    """... and how strong they are, from 0 to 30."""
    num_views: int = 0
    """Ways in which each photo is seen, drawn once for all trainings; 0 changes it anew every time.
    Where the backbone never learns, its maps of photos in all these ways are kept beside the
    decoded photos, and a step costs the aggregator alone."""
    flip_share: float = 0.0
    """Share of the batches that are mirrored whole: mirrored streets are other places, seen alike
    by all their views."""
