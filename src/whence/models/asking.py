"""How a query asks: what is described of it, and how several descriptors or several searches become
one answer.

A query is looked at in one of the modes of the Deep Visual Geo-localization Benchmark (Berton et
al., CVPR 2022), as crops of a wide panorama, or turned by quarters; several photos of one sequence
may ask as one. Database photos are always described as the model's card says. Which model describes
queries is `DescriptorModel.query_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from whence.cards import Preprocessing
from whence.errors import BadOption, UnknownName
from whence.types import Neighbors, PhotoSource

Rule = Literal["mean", "unit mean", "best", "votes"]
"""How several descriptors of one query become one answer: their mean asks; their mean at unit
length asks; each asks, and the best similarity of a database photo counts; each asks, and they vote
before (`merge_crops`)."""
RULE_OF_MODE: dict[str, Rule] = {
    "hard_resize": "mean",
    "single_query": "mean",
    "central_crop": "mean",
    "five_crops": "mean",
    "nearest_crop": "best",
    "maj_voting": "votes",
    "panorama": "best",
    "rotations": "best",
}
QUERY_MODES = tuple(RULE_OF_MODE)
FRAME_RULES: tuple[Rule, ...] = ("unit mean", "best")
"""How frames of a sequence may ask as one."""
VOTED_RANKS = (1, 5, 10)
"""In the first so many columns crops vote for what they have in common."""
WIDE = 1.25
"""A photo this much wider than what the model takes is cut as a panorama."""


Views = tuple[np.ndarray, ...]


class Question(NamedTuple):
    """What one query asks with, and how what is found becomes one answer."""

    rows: np.ndarray
    """(C, D) descriptors, each searched for by itself."""
    rule: Rule = "mean"
    """"best" or "votes" where what several find is merged; else `rows` is one, and what it finds is
    the answer."""
    majority_weight: float = 0.0

    @property
    def descriptor(self) -> np.ndarray:
        """(D,) one descriptor that stands for the query: the mean, whose similarity is the mean of
        the rows' own."""
        return self.rows[0] if len(self.rows) == 1 else self.rows.mean(axis=0)

    def merge(self, neighbors: Neighbors, *, k: int) -> Neighbors:
        """Neighbors that rows found (C, K) as one row, best first; similarities become squared
        distances and back."""
        if self.rule not in ("best", "votes"):
            return neighbors
        weight = self.majority_weight if self.rule == "votes" else None
        ids, distances = merge_crops(
            neighbors.ids[None], 2 - 2 * neighbors.similarities[None], k=k, majority_weight=weight
        )
        is_found = ids[0] >= 0
        return Neighbors(ids[:, is_found], (1 - distances[:, is_found] / 2).astype(np.float32))


def ask(rows: np.ndarray, rule: Rule, *, majority_weight: float = 0.0) -> Question:
    """The question of one query's descriptors (C, D) by a rule. Raises `UnknownName`."""
    if rule not in get_args(Rule):
        raise UnknownName("rule of asking", rule, get_args(Rule))
    if rule in ("best", "votes"):
        return Question(rows, rule, majority_weight)
    # The mean is not brought to unit length again: its similarity is then the mean of the views'
    # own.
    mean = rows[0] if len(rows) == 1 else rows.mean(axis=0)
    if rule == "unit mean":
        mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return Question(np.asarray(mean, np.float32)[None], rule)


def ask_as_one(questions: Sequence[Question], rule: Rule = "unit mean") -> Question:
    """The question of several photos of one place, as the frames of a sequence, each with its own
    question.

    "unit mean": the mean of their descriptors at unit length asks; "best": all ask, and the best
    similarity of a database photo counts. Raises `BadOption` for no photos, and for another rule.
    """
    if rule not in FRAME_RULES:
        raise BadOption(
            f"frames ask as one by {' or '.join(map(repr, FRAME_RULES))}, not by {rule!r}"
        )
    if not questions:
        raise BadOption("no frames to ask with; give at least one photo")
    rows = [
        question.rows if rule == "best" else question.descriptor[None] for question in questions
    ]
    return ask(np.concatenate(rows), rule)


@dataclass(frozen=True, slots=True)
class QueryViews:
    """How queries are looked at."""

    mode: str = "hard_resize"
    """One of `QUERY_MODES`."""
    size_px: tuple[int, int] | None = None
    """Height and width the mode works with; None for those of the model's card."""
    majority_weight: float = 0.01
    """How much squared distance a unanimous vote takes off, in `maj_voting`."""

    def __post_init__(self) -> None:
        if self.mode not in QUERY_MODES:
            raise UnknownName("query mode", self.mode, QUERY_MODES)
        if self.size_px is not None and min(self.size_px) < 1:
            raise BadOption(
                f"a query size is height and width of at least 1 pixel, not {self.size_px}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether queries are looked at as database photos are."""
        return self.mode == "hard_resize" and self.size_px is None

    def question(self, rows: np.ndarray) -> Question:
        """The question of a query, of the descriptors (C, D) of its views."""
        return ask(rows, RULE_OF_MODE[self.mode], majority_weight=self.majority_weight)

    def views(
        self,
        source: PhotoSource,
        steps: Preprocessing,
        read: Callable[[PhotoSource, Preprocessing], np.ndarray],
    ) -> Views:
        """The views of a photo in the size that a model with this card takes; `read` reads a photo
        or pixels."""
        cut = self.cut(read(source, self.reading(steps)), steps)
        if self.mode == "panorama":
            return tuple(read(view, exact(steps, self.size(steps))) for view in cut)
        if self.mode == "rotations":
            return tuple(
                read(view, steps if self.size_px is None else exact(steps, self.size(steps)))
                for view in cut
            )
        return cut

    def size(self, steps: Preprocessing) -> tuple[int, int]:
        """Height and width for a model with this card. Raises `BadOption` where neither names
        one."""
        size = (
            self.size_px
            or steps.size_px
            or (steps.short_side_px and (steps.short_side_px, steps.short_side_px))
        )
        if not size:
            raise BadOption(
                f"the query mode {self.mode} needs a size, which this model's card leaves open: "
                "give query_size=480x640"
            )
        return _multiple(size[0], steps), _multiple(size[1], steps)

    def reading(self, steps: Preprocessing) -> Preprocessing:
        """Steps of a query photo before `cut`, for a model with this card."""
        if self.mode == "hard_resize":
            return steps if self.size_px is None else exact(steps, self.size(steps))
        if self.mode in ("central_crop", "panorama", "rotations"):
            return Preprocessing()
        side = min(self.size(steps))
        multiple = steps.multiple_of if self.mode == "single_query" else 1
        return replace(exact(steps, None), short_side_px=side, enlarge=True, multiple_of=multiple)

    def cut(self, image: np.ndarray, steps: Preprocessing) -> tuple[np.ndarray, ...]:
        """The views of a photo that was read as `reading` says. Those of a panorama, and turned
        ones, are still to be resized."""
        if self.mode in ("hard_resize", "single_query"):
            return (image,)
        if self.mode == "rotations":
            return tuple(np.ascontiguousarray(np.rot90(image, turns)) for turns in range(4))
        height, width = self.size(steps)
        if self.mode == "central_crop":
            return (central_crop(image, (height, width), fill=steps.mean),)
        if self.mode == "panorama":
            return cut_panorama(image, width / height)
        return cut_five(image, min(height, width))


def parse_views(mode: str | None, size: str | None) -> QueryViews | None:
    """The views that a query mode and a size (text, height x width: 480x640) ask for; None for
    neither. Raises `BadOption`."""
    if mode is None and size is None:
        return None
    size_px = None
    if size is not None:
        height, _, width = size.partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise BadOption(
                f"a query size is height x width in pixels, for example 480x640, not {size!r}"
            )
        size_px = (int(height), int(width))
    return QueryViews(mode or "hard_resize", size_px)


def exact(steps: Preprocessing, size_px: tuple[int, int] | None) -> Preprocessing:
    """The card's preprocessing with this size and no other."""
    way = "bilinear" if steps.interpolation == "area" else steps.interpolation
    return replace(steps, size_px=size_px, long_side_px=None, short_side_px=None, interpolation=way)


def central_crop(
    image: np.ndarray, size: tuple[int, int], *, fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """The middle of an image after scaling it, by nearest neighbours, until it covers `size`
    (height, width).

    The benchmark rounds the scaled size down; a row or column that is missing then has the colour
    `fill`, from 0 to 1.
    """
    old = np.array(image.shape[:2])
    scale = max(size[0] / old[0], size[1] / old[1])
    step = np.float32(1 / scale)
    rows, columns = (
        np.minimum(
            np.floor(np.arange(int(side * scale), dtype=np.float32) * step).astype(int), side - 1
        )
        for side in old
    )
    cropped = np.empty((*size, 3), np.uint8)
    cropped[:] = np.round(255 * np.array(fill))
    targets, sources = [], []
    for found, wanted in zip((rows, columns), size, strict=True):
        before = max(0, (wanted - len(found)) // 2)
        start = max(0, round((len(found) - wanted) / 2))
        taken = found[start : start + wanted]
        targets.append(slice(before, before + len(taken)))
        sources.append(taken)
    cropped[targets[0], targets[1]] = image[np.ix_(*sources)]
    return cropped


def cut_five(image: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """Squares of `side` pixels at the corners (top left, top right, bottom left, bottom right) and
    in the middle."""
    height, width = image.shape[:2]
    bottom, right = height - side, width - side
    middle = (round(bottom / 2), round(right / 2))
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), middle)
    return tuple(
        np.ascontiguousarray(image[top : top + side, left : left + side]) for top, left in corners
    )


def cut_panorama(image: np.ndarray, aspect: float) -> tuple[np.ndarray, ...]:
    """Windows of this aspect ratio (width over height) as high as the image, the first at its left
    edge, the last at its right.

    Neighbours overlap by half or more. An image that is not much wider than one window is left
    whole.
    """
    height, width = image.shape[:2]
    if width <= WIDE * aspect * height:
        return (image,)
    window = min(width, max(1, round(aspect * height)))
    num = 1 + int(np.ceil((width - window) / (window / 2)))
    lefts = np.linspace(0, width - window, num).round().astype(int)
    return tuple(np.ascontiguousarray(image[:, left : left + window]) for left in lefts)


def merge_crops(
    ids: np.ndarray, distances: np.ndarray, *, k: int, majority_weight: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and squared distances that the searches of C crops found, (Q, C, K) each, as one list per
    query: (Q, k) of both.

    All are sorted by distance and each id is kept where it comes first. With `majority_weight` ids
    vote before: among the first 1, 5 and 10 columns, an id that occurs c > 1 times there is brought
    nearer by `majority_weight` c / 1, c / 5 and c / 10. An id of -1 stands for nothing found; lists
    that are shorter than k end in -1 and infinite distances.
    """
    merged_ids = np.full((len(ids), k), -1, np.int64)
    merged = np.full((len(ids), k), np.inf, np.float32)
    for q in range(len(ids)):
        near = np.where(ids[q] < 0, np.inf, distances[q]).astype(np.float64)
        if majority_weight is not None:
            _vote(ids[q], near, majority_weight)
        order = np.argsort(near, axis=None, kind="stable")
        flat = ids[q].ravel()[order]
        _, first = np.unique(flat, return_index=True)
        kept = np.sort(first[flat[first] >= 0])[:k]
        merged_ids[q, : len(kept)] = flat[kept]
        merged[q, : len(kept)] = near.ravel()[order][kept]
    return merged_ids, merged


def _vote(ids: np.ndarray, distances: np.ndarray, weight: float) -> None:
    """Lower distances (C, K) in place by the votes of the crops."""
    for n in VOTED_RANKS:
        _, places, counts = np.unique(ids[:, :n], return_inverse=True, return_counts=True)
        votes = counts[places].reshape(ids[:, :n].shape)
        distances[:, :n] -= np.where(votes > 1, weight * votes / n, 0)


def _multiple(side: int, steps: Preprocessing) -> int:
    return steps.multiple_of * max(1, round(side / steps.multiple_of))
