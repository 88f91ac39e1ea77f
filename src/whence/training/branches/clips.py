"""The branch of clips: pairs of frames for tokens, whole clips for forecasts, single frames for
what pixels show."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from whence.data.clips import Clips, cut_clips
from whence.data.photos import NO_TIME
from whence.errors import BadOption
from whence.models.tokens.blocks import patch_coordinates
from whence.models.tokens.opening import TokenModel, token_card
from whence.models.tokens.world import best_of_many
from whence.runtime import random_stream
from whence.training.branches.places import Batch, shard
from whence.training.checkpoints import write_checkpoint
from whence.training.losses.clips import feature_loss
from whence.training.options.clips import ClipsOptions, ReconstructionOptions
from whence.training.pixels import cached_pixels
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

FEATURES = "features.safetensors"
"""What a training of features leaves: the backbone alone, with its card."""
_ORDER, _VIEWS = 173, 174


class ClipBatch(NamedTuple):
    """This process's clips of a batch."""

    frames: Tensor
    """(b, T, H, W, 3) uint8."""
    times: Tensor
    """(b, T) float32 seconds."""
    labels: Tensor
    """(b, H, W) int64 of the last frame; empty where nobody says."""
    metres: Tensor
    """(b, H, W) float32 of the last frame; empty where nobody says."""
    places: Tensor
    """(b,) int64; empty where nobody says."""
    is_after_black: Tensor
    """(b,) bool whether the pair's first frame is to be black."""


def open_clips(options: ClipsOptions | ReconstructionOptions, setup: Setup, *, split: str) -> Clips:
    """Rendered clips of a split, else windows of the drives of a set's database. Raises `NoPhotos`,
    and as `Dataset.sequences`."""
    found = setup.data.rendered_clips(split)
    if found is not None:
        return found
    frames = setup.data.sequences.database
    pixels = cached_pixels(
        frames.photos,
        width=options.width,
        height=options.height,
        folder=setup.pixels_folder,
        show_progress=setup.show_progress,
    )
    clock = frames.photos.time_us
    times: np.ndarray = (
        np.where(clock == NO_TIME, 0, clock - clock.min(initial=0, where=clock != NO_TIME)) / 1e6
    )
    if not len(clock) or (clock == NO_TIME).any() or (np.diff(times) == 0).any():
        times = np.arange(len(pixels), dtype=np.float64) * options.seconds_apart
    return cut_clips(pixels, frames.sequence, times, length=options.length)


class ClipBranch(Branch):
    """All clips once an epoch, in a random order."""

    def __init__(self, options: ClipsOptions, setup: Setup) -> None:
        """Raises `BadOption` for a learner that does not learn by this loss."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        module, name = setup.learner.module, options.loss.name
        learns = (
            "shown"
            if not isinstance(module, TokenModel)
            else "best of many"
            if module.world is not None
            else "log-cosh"
        )
        if (name if name != "squared" else "log-cosh") != learns:
            raise BadOption(f"this learner learns from clips by loss.name={learns}, not {name}")

    def open(self) -> None:
        """Get the clips ready. Raises as `open_clips`, and `BadOption` for fewer than a batch, or
        without labels."""
        self.clips = open_clips(self.options, self.setup, split="train")
        if self.options.loss.name == "shown" and self.clips.labels is None:
            raise BadOption(
                "features learn from clips that say what pixels show: whence world clips FOLDER "
                "renders some"
            )
        if not 1 <= self.options.batch_size <= len(self.clips):
            raise BadOption(
                f"batches of {self.options.batch_size} of {len(self.clips)} clips are not "
                "possible; change batch_size"
            )

    def num_batches(self, epoch: int) -> int:
        return len(self.clips) // self.options.batch_size

    def read(self, place: BatchPlace, share: Share) -> Read:
        size, clips, loss = self.options.batch_size, self.clips, self.options.loss
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(len(clips))
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows
        found = [
            self._clip(int(row), random_stream(self.setup.seed, _VIEWS, *place, int(row)))
            for row in rows
        ]
        frames, times, labels, metres, black = (
            np.stack([one[part] for one in found]) for part in range(5)
        )
        places = np.array([]) if clips.places is None else clips.places[rows]
        content = ClipBatch(
            torch.from_numpy(frames),
            torch.from_numpy(times).float(),
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(metres.astype(np.float32)),
            torch.from_numpy(places.astype(np.int64)),
            torch.from_numpy(black) & (loss.name not in ("shown", "best of many")),
        )
        return Read(content, frames.shape[0] * frames.shape[1])

    def _clip(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Frames, times, labels and metres of the last frame, and whether black goes before, as one
        clip is seen this time."""
        options, clips = self.options, self.clips
        is_whole = options.loss.name == "best of many"
        last = clips.length - 1 if is_whole else int(random.integers(1, clips.length))
        first = 0 if is_whole else last if options.loss.name == "shown" else last - 1
        rows = clips.rows[row, first : last + 1]
        frames = np.asarray(clips.pixels[rows])
        shown = [
            np.zeros((0, 0), np.uint8) if part is None else np.asarray(part[rows[-1]])
            for part in (clips.labels, clips.depth_m)
        ]
        box = _draw_crop(random, frames.shape[1:3], options)
        if box is not None:
            frames = np.stack([_crop(frame, box) for frame in frames])
            shown = [_crop(part.astype(np.float32), box) if part.size else part for part in shown]
        if options.has_flips and random.random() < 0.5:
            frames, shown = frames[:, :, ::-1], [part[:, ::-1] for part in shown]
        black = np.array(random.random() < options.loss.black_share)
        return (
            np.ascontiguousarray(frames),
            clips.times_s[row, first : last + 1],
            shown[0],
            shown[1],
            black,
        )

    def change(self, content: ClipBatch, draw: Draw) -> ClipBatch:
        """The batch on the device that learns."""
        return ClipBatch(*(part.to(draw.device) for part in content))

    def learn(self, learner: nn.Module, content: ClipBatch, draw: Draw) -> Losses:
        draw.seed_torch(1 + draw.share.rank)
        if not isinstance(learner, TokenModel):
            return self._shown(learner, content, draw)
        frames, name = content.frames, self.options.loss.name
        with draw.autocast():
            features = learner.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
            black = learner.features.black(frames[:, 0])
            if name == "best of many":
                with torch.no_grad():
                    tokens = learner.encode_clip(features, black)
                assert learner.world is not None, "asked when it was made"
                side = int(features.shape[2] ** 0.5)
                places = (
                    patch_coordinates(side, side, device=frames.device)
                    if learner.tokens is None
                    else None
                )
                loss, many = best_of_many(
                    learner.world,
                    tokens,
                    content.times,
                    num_many=self.options.loss.num_many,
                    places=places,
                )
                return Losses(loss, {"mean of many": many.losses.mean()})
            assert learner.tokens is not None, "asked when it was made"
            before = torch.where(content.is_after_black[:, None, None], black, features[:, 0])
            made = learner.tokens.decode(learner.tokens.encode(before, features[:, 1]), before)
        apart = (made.detach() - features[:, 1]).square().sum() / (
            before - features[:, 1]
        ).square().sum()
        return Losses(feature_loss(made, features[:, 1], name=name), {"error": apart})

    def _shown(self, learner: nn.Module, content: ClipBatch, draw: Draw) -> Losses:
        with draw.autocast():
            shown, far, place = learner(content.frames[:, -1])
        size = content.labels.shape[1:]
        logits, metres = (
            nn.functional.interpolate(part.float(), size=size, mode="bilinear")
            for part in (shown, far)
        )
        parts = {"pixels": nn.functional.cross_entropy(logits, content.labels)}
        if content.metres.numel():
            parts["metres"] = nn.functional.smooth_l1_loss(
                metres[:, 0], content.metres.log(), beta=0.1
            )
        if len(content.places):
            parts["places"] = nn.functional.cross_entropy(place.float(), content.places)
        return Losses(
            torch.stack(list(parts.values())).sum(),
            {name: value.detach() for name, value in parts.items()},
        )

    def finish(self, weights: Path) -> None:
        """Write the features alone beside what learned with its heads."""
        module: Any = self.setup.learner.module
        if self.options.loss.name == "shown":
            card = token_card(module.model, recipe="clip-features")
            write_checkpoint(weights.parent / FEATURES, module.model.state_dict(), {}, card=card)


def _draw_crop(
    random: np.random.Generator, size: tuple[int, ...], options: ClipsOptions
) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of what is cut out of frames of a size; None where nothing is."""
    if options.crop_area == (1.0, 1.0) and options.crop_aspect == (1.0, 1.0):
        return None
    height, width = size
    area = random.uniform(*options.crop_area) * height * width
    aspect = np.exp(random.uniform(*np.log(options.crop_aspect)))
    wide, high = (
        min(width, round((area * aspect) ** 0.5)),
        min(height, round((area / aspect) ** 0.5)),
    )
    return (
        int(random.integers(height - high + 1)),
        int(random.integers(width - wide + 1)),
        high,
        wide,
    )


def _crop(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A part of an image or of labels, brought back to its size."""
    top, left, high, wide = box
    how = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
    cut = np.ascontiguousarray(image[top : top + high, left : left + wide])
    return np.asarray(cv2.resize(cut, (image.shape[1], image.shape[0]), interpolation=how))
