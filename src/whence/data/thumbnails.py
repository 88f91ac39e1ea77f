"""Small JPEG pictures of photos, and data URIs of them that a page carries inside itself."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from whence.data.images import load_resized
from whence.errors import UnreadableImage

THUMBNAIL_PX = 200
"""Longer side of a thumbnail."""
THUMBNAIL_QUALITY = 72


def thumbnail_jpeg(
    source: str | Path | bytes | np.ndarray, *, long_side_px: int = THUMBNAIL_PX
) -> bytes | None:
    """The bytes of a photo as a JPEG with its longer side at most `long_side_px`; None for a photo
    that cannot be read.

    `source` is a file, its bytes, or RGB pixels (H, W, 3) uint8.
    """
    try:
        image = (
            source
            if isinstance(source, np.ndarray)
            else load_resized(source, long_side_px=long_side_px)
        )
    except UnreadableImage:
        return None
    picture = Image.fromarray(image)
    picture.thumbnail((long_side_px, long_side_px), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return buffer.getvalue()


def thumbnail_uri(
    source: str | Path | bytes | np.ndarray, *, long_side_px: int = THUMBNAIL_PX
) -> str | None:
    """The same as a data URI, which holds base64 letters only: nothing in it needs escaping."""
    data = thumbnail_jpeg(source, long_side_px=long_side_px)
    return (
        None if data is None else "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
    )
