"""Local features: what learns, the pairs of views with exact correspondence, and what the best
weights are chosen by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions, LearnerOptions, ProbeOptions

LocalLossName = Literal[
    "silk", "joint", "matching", "distillation", "naive", "persistence", "patches"
]


@dataclass(frozen=True, slots=True)
class LocalFeatureOptions(LearnerOptions):
    """A network that finds keypoints and describes them (`whence.models.local.dense`)."""

    kind: Literal["local features"] = "local features"
    network: str = "strided"
    """Its name."""
    start_from: str = ""
    """A safetensors file with the weights to begin with; empty for random ones."""
    trained_on: str = "the photos given to `whence train`"
    """What the card is to say of the photos."""


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """How a view is cut out of a photo, and what light it is seen in. Sizes in pixels of photos as
    they are kept."""

    width: int = 256
    height: int = 192
    stored_width: int = 400
    """Width and height at which photos are kept decoded."""
    stored_height: int = 300
    zoom: tuple[float, float] = (0.7, 1.4)
    """Pixels of a view for one of the photo, drawn evenly in its logarithm."""
    rotation_deg: float = 25.0
    """Largest turn in the plane."""
    corners: float = 0.1
    """How far each corner moves at most, as a share of the view's sides."""
    other_share: float = 0.6
    """Share of the views that are cut out of another photo taken from the same point, where there
    is one."""
    gamma: float = 0.5
    """Largest change of the logarithm of the exponent of brightness."""
    gain: float = 0.4
    """Largest share by which brightness is multiplied up or down, and of the grey range by which it
    is shifted, half of it."""
    light: float = 0.5
    """How uneven the light may be over a view, as a share of it."""
    noise: float = 8.0
    """Largest standard deviation of noise, in grey values of 255."""
    blur_share: float = 0.25
    """Share of the views that are blurred."""


@dataclass(frozen=True, slots=True)
class TaughtPointsOptions(BranchOptions):
    """Keypoints of an extractor, found on photos as they are: the learner finds and describes them
    so in every view and light.

    The loss is the cross-entropy of the keypoints' map, what a descriptor lacks in cosine to the
    extractor's, and a softmax over all points of the batch, both ways: from learner to extractor,
    and between two views of one photo.
    """

    kind: Literal["taught points"] = "taught points"
    teacher: str = "aliked"
    """The extractor by name (`whence.models.cards.local.PARTS_OF`), whose weights are in the cache,
    or ..."""
    teacher_weights: str = ""
    """... in this file or folder."""
    num_points: int = 400
    """Keypoints of a photo."""
    num_photos: int = 3
    """Photos of a batch; two views of each."""
    num_described: int = 256
    """Keypoints of a view whose descriptors are learned, drawn anew."""
    temperature: float = 0.07
    cosine: float = 1.0
    """Weight of what descriptors lack in cosine ..."""
    contrast: float = 1.0
    """... of the softmax from learner to extractor ..."""
    between_views: float = 0.5
    """... and of that between two views."""
    detection: float = 4.0
    """Weight of the keypoints' map."""
    spread_px: float = 0.9
    """Standard deviation of a keypoint in the map that is learned."""
    views: ViewOptions = field(default_factory=ViewOptions)

    @property
    def loss_name(self) -> str:
        """The name of the loss, as lists of recipes show it."""
        return "taught points"

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos."""
        return {"num_photos": len(data.photos)}


@dataclass(frozen=True, slots=True)
class LocalLossOptions:
    """The loss over two views of one photo (`whence.training.losses.features`,
    `whence.training.losses.heights`)."""

    name: LocalLossName = "silk"
    temperature: float = 0.1
    """Of similarities; AsymLoc's omega."""
    student_temperature: float = 1.0
    """What the student's and ..."""
    teacher_temperature: float = 1.0
    """... the teacher's confidences are divided by where they weigh similarities."""
    least_confidence: float = 0.65
    """Correspondences of which the teacher is surer than this count in the matching loss ..."""
    least_share: float = 0.2
    """... but this share of them at least, the surest: a teacher of few steps is sure of none."""
    distillation: float = 2.0
    """Weight of the joint distillation beside the matching loss."""
    alpha: float = 10.0
    """Of MorseDet: what hills of the one view that the other lacks cost."""
    patch_px: int = 16
    """Side of the patches of the loss that MorseDet is compared with."""


@dataclass(frozen=True, slots=True)
class HomographyPairsOptions(BranchOptions):
    """Two views of one photo, or of two photos from one point, with the homography between them."""

    kind: Literal["homography pairs"] = "homography pairs"
    teacher: str = ""
    """A safetensors file that a training of local features wrote; it stays as it is. For the losses
    that distil."""
    num_pairs: int = 4
    """Pairs of a batch."""
    num_points: int = 512
    """Points of a pair that are compared, drawn anew; with a teacher half of them its keypoints."""
    loss: LocalLossOptions = field(default_factory=LocalLossOptions)
    views: ViewOptions = field(default_factory=lambda: ViewOptions(width=96, height=96))

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos."""
        return {"num_photos": len(data.photos)}


@dataclass(frozen=True, slots=True)
class MatchedShareOptions(ProbeOptions):
    """What the best weights are chosen by: pairs of views whose homography is found again within
    some pixels."""

    kind: Literal["matched share"] = "matched share"
    within_px: float = 3.0
    """Mean distance of the corners of a view from where they belong."""
    num_pairs: int = 60
    """Pairs that are matched, the same ones every time."""
    max_keypoints: int = 500
    views: ViewOptions = field(
        default_factory=lambda: ViewOptions(width=320, height=240, rotation_deg=15.0)
    )

    @property
    def measured(self) -> str:
        """The name of what is logged."""
        return f"homographies within {self.within_px:g} px"


def changed(options: ViewOptions) -> dict[str, Any]:
    """The options of views as a mapping, to be replaced by others."""
    return {name: getattr(options, name) for name in options.__dataclass_fields__}
