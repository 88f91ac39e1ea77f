"""A drive kept as one token a frame: key frames, which a database describes, and what leads from
each to the frames after it.

A frame is a new key frame where its features, made again from the last key frame and one token, are
too far off. Tokens are the difference from the frame's key frame; a key frame's own is that from
black.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from whence.data.images import load_resized
from whence.data.scan import scan_photos
from whence.errors import BadOption, NoPhotos
from whence.geo import distances_m
from whence.index.store import Store
from whence.types import GeoPoint

if TYPE_CHECKING:
    from torch import Tensor

    from whence.models.tokens.delta import DeltaTok
    from whence.models.tokens.opening import TokenModel

BLOB = "drive-tokens"
MOST_ERROR = 0.25
"""Squared error of a frame's features over their square at which a new key frame is opened."""


@dataclass(frozen=True)
class DriveTokens:
    """T frames of a drive."""

    frames: tuple[str, ...]
    tokens: np.ndarray
    """(T, D) float16."""
    keys: np.ndarray
    """(T,) the key frame that each frame's token follows; of a key frame, itself."""
    errors: np.ndarray
    """(T,) float32 how far off each frame is when it is made again."""
    points: np.ndarray
    """(T, 2) latitude and longitude; NaN where nobody knows."""
    model: str
    """Name of the model that made the tokens."""

    @property
    def key_frames(self) -> tuple[str, ...]:
        """The frames that a database describes."""
        return tuple(self.frames[row] for row in np.unique(self.keys))

    @property
    def num_bytes(self) -> int:
        """Bytes of all tokens."""
        return int(self.tokens.nbytes)


def read_drive(
    frames: Sequence[str],
    model_file: str | Path,
    *,
    most_error: float = MOST_ERROR,
    positions: str | Path | None = None,
) -> DriveTokens:
    """The tokens and key frames of a drive's frames, in the order of their names; `positions` is a
    table of where they were.

    Raises `NoPhotos`, `BadOption`, and as `open_tokens`.
    """
    from whence.models.cards.text import read_card
    from whence.models.tokens.opening import open_tokens

    if most_error <= 0:
        raise BadOption(f"frames are made again with some error, more than {most_error:g}")
    model = open_tokens(model_file)
    photos = scan_photos(*frames, positions=positions, show_progress=False)
    if not len(photos):
        raise NoPhotos("the drive has no frames")
    files = [str(photos.file(row)) for row in range(len(photos))]
    import torch

    with torch.inference_mode():
        tokens, keys, errors = _walk(model, files, most_error)
    points = np.stack([photos.lat, photos.lon], axis=1)
    return DriveTokens(tuple(files), tokens, keys, errors, points, read_card(model_file).name)


def _walk(
    model: TokenModel, files: Sequence[str], most_error: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    maker = _tokens_of(model)
    found = list[Any]()
    keys, errors = list[int](), list[float]()
    key: Tensor | None = None
    for row, file in enumerate(files):
        pixels = _pixels(file, model.size_px)[None]
        now = model.features_of(pixels)
        if key is not None:
            token = maker.encode(key, now)
            error = _error(maker.decode(token, key), now)
            if error <= most_error:
                found.append(token)
                keys.append(keys[-1])
                errors.append(error)
                continue
        black = model.features.black(_as_tensor(pixels))
        token = maker.encode(black, now)
        found.append(token)
        keys.append(row)
        errors.append(_error(maker.decode(token, black), now))
        key = now
    tokens = np.concatenate([one.numpy() for one in found]).astype(np.float16)
    return tokens, np.array(keys, np.int64), np.array(errors, np.float32)


def _tokens_of(model: TokenModel) -> DeltaTok:
    if model.tokens is None:
        raise BadOption(
            "this model has no tokens: train them by a recipe of tokens, as deltatok-small"
        )
    return model.tokens


def _as_tensor(pixels: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(pixels)


def _error(estimate: Tensor, now: Tensor) -> float:
    return float((estimate - now).square().sum() / now.square().sum())


def _pixels(file: str, size_px: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 of a frame, brought to a size whatever its shape was."""
    image = load_resized(Path(file), short_side_px=2 * min(size_px))
    return np.ascontiguousarray(
        cv2.resize(image, (size_px[1], size_px[0]), interpolation=cv2.INTER_AREA)
    )


def store_drive(path: str | Path, drive: DriveTokens) -> None:
    """Keep a drive's tokens in its database, in place of those before."""
    names = np.frombuffer(
        json.dumps({"frames": drive.frames, "model": drive.model}).encode(), np.uint8
    )
    arrays = {
        "tokens": drive.tokens,
        "keys": drive.keys,
        "errors": drive.errors,
        "points": drive.points,
        "names": names,
    }
    with Store.open(path, writable=True) as store:
        store.write_blob(BLOB, arrays)


def stored_drive(path: str | Path) -> DriveTokens:
    """The tokens that a database keeps. Raises `NoPhotos` where there are none."""
    with Store.open(path) as store:
        found = store.read_blob(BLOB)
    if found is None:
        raise NoPhotos(
            f"{str(path)!r} keeps no tokens: whence index VIDEO --db {path} --tokens FILE does"
        )
    names = json.loads(bytes(np.asarray(found["names"])))
    tokens, keys, errors, points = (
        np.asarray(found[name]) for name in ("tokens", "keys", "errors", "points")
    )
    return DriveTokens(tuple(names["frames"]), tokens, keys, errors, points, str(names["model"]))


@dataclass(frozen=True)
class Changes:
    """What differs between two drives, at frames of the second that the first came near."""

    points: np.ndarray
    """(n, 2) latitude and longitude."""
    values: np.ndarray
    """(n,) share of the features' square that is another, patch by patch the least over near frames
    of the first."""
    frames: tuple[str, ...]


def changes_between(
    first: str | Path, second: str | Path, model_file: str | Path, *, within_m: float = 10.0
) -> Changes:
    """Changes of a second database's drive since the first's: key frames as they are, all others
    made again from tokens.

    Raises `UnreadableImage` for a key frame that is gone, `NoPhotos` where they nowhere come so
    near, and as `stored_drive` and `open_tokens`.
    """
    from whence.models.tokens.opening import open_tokens

    model = open_tokens(model_file)
    drives = [stored_drive(path) for path in (first, second)]
    features = [_made_again(model, drive) for drive in drives]
    points, values, frames = [], [], []
    for row, point in enumerate(drives[1].points):
        if not np.isfinite(point).all():
            continue
        near = (
            distances_m(
                drives[0].points[:, 0], drives[0].points[:, 1], GeoPoint(*map(float, point))
            )
            <= within_m
        )
        if not near.any():
            continue
        now = features[1][row]
        apart = ((features[0][near] - now) ** 2).sum(axis=2).min(axis=0)
        points.append(point)
        values.append(float(apart.sum() / (now**2).sum()))
        frames.append(drives[1].frames[row])
    if not points:
        raise NoPhotos(
            f"the drives nowhere come within {within_m:g} m of each other, or nobody knows where "
            "they were"
        )
    return Changes(np.array(points), np.array(values), tuple(frames))


def _made_again(model: TokenModel, drive: DriveTokens) -> np.ndarray:
    """(T, N, D) features of a drive's frames: key frames' from their photos, all others' from their
    tokens."""
    import torch

    maker = _tokens_of(model)
    keys, places = np.unique(drive.keys, return_inverse=True)
    pixels = np.stack([_pixels(drive.frames[row], model.size_px) for row in keys])
    with torch.inference_mode():
        whole = model.features_of(pixels)
        before = whole[torch.from_numpy(places)]
        tokens = torch.from_numpy(drive.tokens.astype(np.float32))
        found = maker.decode(tokens, before)
        is_key = torch.from_numpy(drive.keys == np.arange(len(drive.keys)))
        found[is_key] = before[is_key]
    return found.numpy()
