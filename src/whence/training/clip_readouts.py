"""Linear readouts over frozen features, and how much features that were made again or forecast
still say.

A readout is a batch norm and one layer, learned on true features: what pixels show, and how far
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.clips import Clips
from whence.models.tokens.opening import TokenModel
from whence.runtime import random_stream

NUM_BINS, FARTHEST_M = 64, 80.0
_READOUT, _CUT = 175, 176
_BATCH = 16


class Readouts(nn.Module):
    """Logits of what pixels show (B, C, H, W), and distances (B, H, W), of features (B, N, D) of
    square frames."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, num_classes, 1))
        self.far = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, NUM_BINS, 1))
        self.register_buffer("bins", torch.linspace(1e-3, FARTHEST_M, NUM_BINS))
        self.bins: Tensor

    def forward(self, features: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
        side = int(features.shape[1] ** 0.5)
        maps = features.transpose(1, 2).unflatten(2, (side, side))
        logits, weights = self.classes(maps), self.far(maps).relu() + 0.1
        metres = (weights * self.bins[:, None, None]).sum(dim=1, keepdim=True) / weights.sum(
            dim=1, keepdim=True
        )
        size = (side_px, side_px)
        spread = nn.functional.interpolate(metres, size=size, mode="bilinear")[:, 0]
        return nn.functional.interpolate(logits, size=size, mode="bilinear"), spread


def fit_readouts(
    model: TokenModel, clips: Clips, *, num_classes: int, num_steps: int = 300, seed: int = 0
) -> Readouts:
    """Readouts learned on true features of clips that say what pixels show."""
    assert clips.labels is not None, "rendered clips say it"
    assert clips.depth_m is not None, "rendered clips say it"
    torch.manual_seed(seed)
    readouts = Readouts(model.features.backbone.channels, num_classes)
    optimizer = torch.optim.AdamW(readouts.parameters(), lr=1e-2)
    random = random_stream(seed, _READOUT)
    for _ in range(num_steps):
        rows = random.integers(len(clips.pixels), size=48)
        features = model.features(torch.from_numpy(np.asarray(clips.pixels[rows])))
        logits, metres = readouts(features, clips.pixels.shape[1])
        labels, depth = (
            torch.from_numpy(np.asarray(part[rows])) for part in (clips.labels, clips.depth_m)
        )
        loss = (
            nn.functional.cross_entropy(logits, labels.long())
            + (metres - depth.float()).abs().mean() / 10
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return readouts.eval()


@dataclass(frozen=True)
class Score:
    """What features that were made come to, clip by clip."""

    error: np.ndarray
    """(N,) squared error over the mean squared error of repeating the last frame."""
    iou: float
    """Mean over classes of intersection over union of what the readout says pixels show."""
    depth_m: float
    """Root of the mean squared error of distances."""


class Truth(NamedTuple):
    """Clips with their features, and the readouts."""

    clips: Clips
    features: Tensor
    """(N, T, P, D)."""
    readouts: Readouts


def read_truth(model: TokenModel, clips: Clips, readouts: Readouts) -> Truth:
    """Clips with their true features."""
    parts = [model.features_of(clips.frames(np.array([row]))[0]) for row in range(len(clips))]
    return Truth(clips, torch.stack(parts), readouts)


@torch.inference_mode()
def score(truth: Truth, estimate: Tensor, *, frame: int, last: int) -> Score:
    """Features (N, P, D) that were made of a frame, against repeating the frame `last`."""
    clips = truth.clips
    assert clips.labels is not None, "rendered clips say it"
    assert clips.depth_m is not None, "rendered clips say it"
    now, before = truth.features[:, frame], truth.features[:, last]
    still = (now - before).square().mean()
    error = (estimate - now).square().mean(dim=(1, 2)) / still
    rows, num = clips.rows[:, frame], truth.readouts.classes[1].out_channels  # type: ignore[union-attr]
    counts, squared = np.zeros((int(num), int(num)), np.int64), []  # type: ignore[arg-type]
    for start in range(0, len(estimate), 64):
        part = slice(start, start + 64)
        logits, metres = truth.readouts(estimate[part], clips.pixels.shape[1])
        shown = logits.argmax(dim=1).numpy()
        seen = clips.labels[rows[part]].astype(np.int64)
        counts += np.bincount(
            len(counts) * seen.ravel() + shown.ravel(), minlength=counts.size
        ).reshape(counts.shape)
        squared.append(
            (metres - torch.from_numpy(clips.depth_m[rows[part]]).float()).square().mean(dim=(1, 2))
        )
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    iou = (np.diag(counts)[union > 0] / union[union > 0]).mean()
    return Score(error.numpy(), float(iou), float(torch.cat(squared).mean().sqrt()))


@torch.inference_mode()
def decode_after(
    model: TokenModel, truth: Truth, *, frame: int, num_steps: int = 1, is_cut: bool = False
) -> Tensor:
    """(N, P, D) features of a frame, made again from its token and the frame before it.

    With more steps the frame before was itself made so many times in a row, from tokens of true
    frames; after a cut the frame before is that of another clip.
    """
    assert model.tokens is not None, "asked of models with tokens"
    found = []
    other = torch.from_numpy(random_stream(0, _CUT).permutation(len(truth.features)))
    for start in range(0, len(truth.features), _BATCH):
        part = truth.features[start : start + _BATCH]
        if is_cut:
            before = truth.features[other[start : start + _BATCH], frame - 1]
            found.append(model.tokens.decode(model.tokens.encode(before, part[:, frame]), before))
            continue
        made = part[:, frame - num_steps]
        for now in range(frame - num_steps + 1, frame + 1):
            made = model.tokens.decode(model.tokens.encode(part[:, now - 1], part[:, now]), made)
        found.append(made)
    return torch.cat(found)


@torch.inference_mode()
def forecast_samples(
    model: TokenModel, truth: Truth, *, context: int, steps: int, num_samples: int, seed: int = 0
) -> Tensor:
    """(N, S, P, D) sampled features of the frame so many steps after a context."""
    torch.manual_seed(seed)
    black = model.features.black(torch.from_numpy(truth.clips.frames(np.array([0]))[0]))
    found = []
    for start in range(0, len(truth.features), _BATCH):
        part = slice(start, start + _BATCH)
        times = torch.from_numpy(truth.clips.times_s[part, : context + steps]).float()
        futures = model.forecast(
            truth.features[part, :context], black, times, num_samples=num_samples
        )
        found.append(futures.features[:, :, -1])
    return torch.cat(found)


def best_sample(truth: Truth, samples: Tensor, *, frame: int) -> Tensor:
    """(N, P, D) of samples (N, S, P, D) those nearest to the true features of a frame."""
    errors = (samples - truth.features[:, frame, None]).square().mean(dim=(2, 3))
    return samples[torch.arange(len(samples)), errors.argmin(dim=1)]


def pooled(features: Tensor) -> Tensor:
    """(..., D) descriptors of unit length of features (..., P, D): their means."""
    return nn.functional.normalize(features.mean(dim=-2), dim=-1)


@torch.inference_mode()
def fetched_share(
    truth: Truth, samples: Tensor, database: Tensor, *, frame: int, num_asked: int, num_fetched: int
) -> np.ndarray:
    """(N,) which share of the candidates of a frame had been fetched before it came.

    Its candidates are the `num_asked` most similar descriptors (M, D) of a database; fetched are
    the `num_fetched` most similar to any of the samples (N, S, P, D) of its features.
    """
    asked = (pooled(truth.features[:, frame]) @ database.T).topk(num_asked, dim=1).indices
    near = (pooled(samples) @ database.T).amax(dim=1).topk(num_fetched, dim=1).indices
    found: np.ndarray = (asked[:, :, None] == near[:, None]).any(dim=2).float().mean(dim=1).numpy()
    return found
