"""Small videos made by PyAV, whose frames can be told apart: frame n has a bar at its own place."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def picture(number: int, *, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    image = np.full((*size, 3), 60, np.uint8)
    image[:, (4 * number) % size[1] : (4 * number) % size[1] + 8] = (230, 60, 30)
    return image


def write_video(
    file: Path,
    seconds: Sequence[float],
    *,
    pictures: Sequence[np.ndarray] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """A video whose frames are shown at these seconds, with these tags of its file."""
    import av

    images = (
        [picture(number) for number in range(len(seconds))] if pictures is None else list(pictures)
    )
    with av.open(str(file), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(tags or {})
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        for second, image in zip(seconds, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(second * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file
