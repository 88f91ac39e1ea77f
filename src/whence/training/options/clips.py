"""Clips: what learns from them (features, tokens, forecasts), how they are seen, and what the best
weights are chosen by.

After Kerssies, Berton et al.: A frame is worth one token, CVPR 2026, whose paper and release differ
in several of these values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions, LearnerOptions, ProbeOptions

ClipLoss = Literal["shown", "log-cosh", "squared", "best of many"]


@dataclass(frozen=True, slots=True)
class ClipFeaturesOptions(LearnerOptions):
    """A backbone that learns what pixels of clips show, how far they are and which ground it is, to
    be frozen then."""

    kind: Literal["clip features"] = "clip features"
    backbone: str = "vit_mini8_64"
    num_classes: int = 5
    num_places: int = 16


@dataclass(frozen=True, slots=True)
class FrameTokensOptions(LearnerOptions):
    """DeltaTok over features that stay as they are. Its width is the backbone's."""

    kind: Literal["frame tokens"] = "frame tokens"
    features: str = ""
    """What a training of clip features wrote, or a model's name; its backbone is taken."""
    num_heads: int = 4
    depth: int = 3
    hidden: int = 256
    is_release: bool = False
    is_delta: bool = True
    scale: float = 1e-5
    rescale: float = 1.0


@dataclass(frozen=True, slots=True)
class ForecastsOptions(LearnerOptions):
    """DeltaWorld over tokens, or over all patches, that stay as they are."""

    kind: Literal["forecasts"] = "forecasts"
    tokens: str = ""
    """What a training of frame tokens wrote ..."""
    features: str = ""
    """... or, for forecasts over patches, what one of clip features wrote, or a model's name."""
    width: int = 64
    num_heads: int = 4
    depth: int = 4
    is_learned: bool = False
    """Whether one forecast begins as a learned vector, instead of many as noise."""
    scale: float = 1e-5


@dataclass(frozen=True, slots=True)
class ClipLossOptions:
    """What is learned from a clip."""

    name: ClipLoss = "log-cosh"
    """`shown`: what pixels show, for features. `log-cosh` (release) or `squared` (paper): features
    made again, for tokens. `best of many`: the nearest forecast, for forecasts."""
    num_many: int = 32
    """Forecasts of each time, of which the nearest learns."""
    black_share: float = 0.1
    """Share of the pairs whose first frame is black, so that a drive's first frame has a token;
    ours, it is not published."""


@dataclass(frozen=True, slots=True)
class ClipsOptions(BranchOptions):
    """Clips of frames: rendered ones, or windows of drives."""

    kind: Literal["clips"] = "clips"
    batch_size: int = 16
    """Clips of a batch; for tokens pairs of frames, one of each clip."""
    length: int = 8
    """Frames of a window, where drives are cut."""
    width: int = 64
    height: int = 64
    seconds_apart: float = 0.2
    """Between frames of drives that carry no times."""
    crop_area: tuple[float, float] = (1.0, 1.0)
    """Share of a frame's area that is cut out, the same of all frames of a clip ..."""
    crop_aspect: tuple[float, float] = (1.0, 1.0)
    """... and its width over its height."""
    has_flips: bool = True
    loss: ClipLossOptions = field(default_factory=ClipLossOptions)

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Clips, or frames of drives."""
        found = data.rendered_clips("train")
        return (
            {"num_photos": len(data.sequences.database.photos)}
            if found is None
            else {"num_clips": len(found)}
        )


@dataclass(frozen=True, slots=True)
class ReconstructionOptions(ProbeOptions):
    """What the best weights are chosen by: 1 / (1 + E), E the error against that of repeating the
    frame before; of features the mean over classes of intersection over union."""

    kind: Literal["reconstruction"] = "reconstruction"
    num_clips: int = 60
    length: int = 8
    context: int = 4
    """Frames that forecasts follow ..."""
    steps: int = 1
    """... and how many steps on they are looked at."""
    num_samples: int = 20
    width: int = 64
    height: int = 64
    seconds_apart: float = 0.2

    @property
    def measured(self) -> str:
        """The name of what is logged."""
        return "reconstruction of clips"


def token_values(options: FrameTokensOptions | ForecastsOptions) -> dict[str, Any]:
    """The fields of the options that are sizes of the part that learns."""
    taken = ("kind", "features", "tokens")
    return {
        one.name: getattr(options, one.name) for one in fields(options) if one.name not in taken
    }
