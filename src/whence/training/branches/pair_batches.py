"""Pairs of a photo from orbit and a tile that it shows, and batches of pairs that do not overlap.
Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.data.footprints import footprint_of, overlapping
from whence.data.photos import Photos
from whence.data.tiles import box_corners, overlap_matrix, to_cells, unwrap_deg
from whence.errors import NoPhotos
from whence.runtime import random_stream
from whence.training.branches.tile_places import TilePlaces, read_photos, read_tiles
from whence.training.datasets import Dataset

_ORDER = 131


@dataclass(frozen=True)
class PhotoPairs:
    """Photos, places, and which of them belong together."""

    photos: Photos
    places: TilePlaces
    pairs: np.ndarray
    """(N, 2) rows of photos and numbers of places."""
    boxes: np.ndarray
    """(N, 4) south, west, north, east of all that a pair shows."""
    turns: np.ndarray
    """(photos,) quarters, counter-clockwise, that bring north nearest to a photo's top."""

    def counts(self) -> dict[str, int]:
        """How much there is."""
        return {
            "num_photos": len(self.photos),
            "num_places": len(self.places),
            "num_pairs": len(self.pairs),
        }

    def batch(self, num: int, *, seed: int, epoch: int, number: int) -> np.ndarray:
        """(at most num,) numbers of pairs, no two of which overlap."""
        order = random_stream(seed, _ORDER, epoch, number).permutation(len(self.pairs))
        chosen: list[int] = []
        for pair in order.tolist():
            if not chosen or not overlap_matrix(self.boxes[[*chosen, pair]])[-1, :-1].any():
                chosen.append(pair)
                if len(chosen) == num:
                    break
        return np.array(chosen, np.int64)


def find_pairs(data: Dataset, *, least_iou: float) -> PhotoPairs:
    """All pairs of a data set whose footprints share more than `least_iou`. Raises `NoPhotos` where
    there are none."""
    places, photos = read_tiles(data), read_photos(data)
    polygons = box_corners(places.boxes)
    pairs, boxes = [], []
    turns = np.zeros(len(photos), np.int64)
    for row, path in enumerate(photos.paths):
        own = footprint_of(path)
        if own is None:
            continue
        turns[row] = north_up_turns(own)
        for place in overlapping(own, polygons, least_iou=least_iou).tolist():
            together = np.concatenate([own, polygons[place]])
            lon = unwrap_deg(together[:, 1])
            pairs.append((row, place))
            boxes.append((together[:, 0].min(), lon.min(), together[:, 0].max(), lon.max()))
    if not pairs:
        raise NoPhotos(
            f"no photo and tile share more than {least_iou:g} of what they cover together; lower "
            "least_iou"
        )
    return PhotoPairs(photos, places, np.array(pairs, np.int64), np.array(boxes), turns)


def north_up_turns(footprint: np.ndarray) -> int:
    """Quarters, counter-clockwise, by which a photo with this footprint (4, 2) is turned to have
    north nearest to its top."""
    column, row = to_cells(footprint[:, 0], unwrap_deg(footprint[:, 1]), 0)
    east, north = (
        (column[1] + column[2]) - (column[0] + column[3]),
        (row[0] + row[3]) - (row[1] + row[2]),
    )
    return int(-np.rint(np.degrees(np.arctan2(east, north)) / 90)) % 4
