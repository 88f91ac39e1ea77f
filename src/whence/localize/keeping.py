"""Whether a database keeps the local descriptors of its photos: comparing candidates then needs no
photo to be read again."""

from __future__ import annotations

from whence.models.descriptor import DescriptorModel
from whence.settings import BuildOptions

BYTES_PER_PHOTO = 280_000
"""Of 2,000 keypoints with RootSIFT as bytes."""
MOST_BYTES = 2_000_000_000
"""What local descriptors may take where nobody asked for them."""


def keeps_local(options: BuildOptions, model: DescriptorModel, num_photos: int) -> bool:
    """Whether local descriptors of a database of so many photos are kept."""
    if options.keep_local is not None:
        return options.keep_local
    return model.descriptor.local is not None and num_photos * BYTES_PER_PHOTO <= MOST_BYTES


def bytes_per_photo(options: BuildOptions, model: DescriptorModel, num_photos: int) -> int:
    """Bytes that kept local descriptors take of each photo, at most."""
    return BYTES_PER_PHOTO if keeps_local(options, model, num_photos) else 0
