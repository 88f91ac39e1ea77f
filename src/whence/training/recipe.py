"""`Recipe`: everything a training follows from, as typed values. Nothing here computes; nothing
here needs torch.

What learns, each branch and the probe are records of several kinds. The command line changes fields
by dotted name; a name may leave out `learner.` and `branches.0.`: `loss.margin=0.2` changes every
branch that has one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self

from whence import records
from whence.errors import UnknownName
from whence.settings import parse_options
from whence.training.options.kinds import BranchOptions, LearnerOptions, ProbeOptions
from whence.training.options.learners import NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.validation import RecallOptions

_WHAT = "field of the recipe"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training."""

    name: str
    learner: LearnerOptions = field(default_factory=NetworkOptions)
    branches: tuple[BranchOptions, ...] = ()
    """What is learned from, each in every step; the seconds that a step takes are those of all of
    them."""
    summary: str = ""
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    validate_on: ProbeOptions = field(default_factory=RecallOptions)
    """The probe that the best weights are chosen by."""

    def to_json(self) -> str:
        """The recipe as text."""
        return json.dumps(records.as_values(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The recipe that `to_json` wrote. Raises `UnknownName` and `BadOption`."""
        return records.fill(cls, json.loads(text), what=_WHAT)


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with fields replaced by texts such as "optimizer.lr=1e-4". Raises `UnknownName`
    and `BadOption`."""
    for name, value in parse_options(tuple(assignments)).items():
        for whole in whole_names(recipe, name):
            recipe = records.with_values(recipe, {whole: value}, what=_WHAT)
    return recipe


def whole_names(recipe: Recipe, name: str) -> tuple[str, ...]:
    """The fields that a name stands for: itself, else the learner's, and that of every branch.
    Raises `UnknownName`."""
    if _has(recipe, name):
        return (name,)
    parts = {"learner": recipe.learner} | {
        f"branches.{number}": branch for number, branch in enumerate(recipe.branches)
    }
    found = tuple(f"{prefix}.{name}" for prefix, part in parts.items() if _has(part, name))
    if not found:
        raise UnknownName(_WHAT, name, field_names(recipe))
    return found


def field_names(recipe: Recipe) -> tuple[str, ...]:
    """All fields that can be replaced, by dotted name, and by the shorter name of each field of the
    learner and the branches."""
    names = records.field_names(recipe)
    parts = [recipe.learner, *recipe.branches]
    return tuple(
        dict.fromkeys([*names, *(name for part in parts for name in records.field_names(part))])
    )


def size_px(recipe: Recipe) -> tuple[int, int]:
    """Width and height of photos as the learner will be used on them: the probe's, else those of
    the first branch that says.

    0 where the recipe does not say.
    """
    seen: list[Any] = [
        recipe.validate_on,
        *(getattr(branch, "augment", None) for branch in recipe.branches),
        *recipe.branches,
    ]
    sizes = [(getattr(part, "width", 0), getattr(part, "height", 0)) for part in seen]
    widths, heights = ([size[side] for size in sizes if size[side]] for side in (0, 1))
    return (widths or [0])[0], (heights or [0])[0]


def _has(part: Any, name: str) -> bool:
    """Whether a record has the field of this dotted name, or a mapping that may hold it."""
    for word in name.split("."):
        if isinstance(part, tuple) and word.isdigit() and int(word) < len(part):
            part = part[int(word)]
        elif is_dataclass(part) and word in {entry.name for entry in fields(part)}:
            part = getattr(part, word)
        else:
            return isinstance(part, Mapping)
    return True
