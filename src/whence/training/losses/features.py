"""Losses over points of two views whose correspondence is known: SiLK's, AsymLoc's two, and the
plain one of distillation.

Row i of the one view and row i of the other belong together. Confidences lie in (0, 1), descriptors
(N, D) are of unit length. SiLK: Gleize, Wang, Feiszli, ICCV 2023. AsymLoc: Omama, Berton, Foxlin,
Kim, CVPR 2026.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_LEAST_LOG = -27.6
"""The logarithm of about 1e-12, below which no probability goes."""


class Described(NamedTuple):
    """Points of one view, as one network sees them."""

    confidences: Tensor
    """(N,) in (0, 1)."""
    descriptors: Tensor
    """(N, D) of unit length."""


def silk_loss(
    first: Tensor, second: Tensor, logits: tuple[Tensor, Tensor], *, temperature: float = 0.1
) -> dict[str, Tensor]:
    """SiLK's two losses of descriptors (N, D) and the logits (N,) of the two views' points.

    "descriptors": what the softmax of similarities lacks, both ways. "keypoints": the cross-entropy
    between a point's logit and whether it and its partner are each other's nearest; whether they
    are has no gradient.
    """
    similarities = first @ second.T / temperature
    right = torch.arange(len(first), device=first.device)
    described = nn.functional.cross_entropy(similarities, right) + nn.functional.cross_entropy(
        similarities.T, right
    )
    with torch.no_grad():
        is_matched = (
            (similarities.argmax(dim=1) == right) & (similarities.argmax(dim=0) == right)
        ).to(first)
    keypoints = sum(
        nn.functional.binary_cross_entropy_with_logits(one, is_matched) for one in logits
    )
    return {"descriptors": described, "keypoints": torch.as_tensor(keypoints)}


def log_mutual_match(teacher: Described, student: Described, *, temperature: float = 0.1) -> Tensor:
    """(N, N) logarithm of AsymLoc's mutual matching matrix: confidences times the softmax of
    similarities along rows and columns.

    Rows are the teacher's points, columns the student's; the other way round it is the transpose.
    """
    similarities = teacher.descriptors @ student.descriptors.T / temperature
    weights = teacher.confidences.log()[:, None] + student.confidences.log()[None]
    return (weights + similarities.log_softmax(dim=1) + similarities.log_softmax(dim=0)).clamp(
        min=_LEAST_LOG
    )


def matching_loss(
    teacher_a: Described,
    student_b: Described,
    teacher_b: Described,
    *,
    temperature: float = 0.1,
    least_confidence: float = 0.65,
    least_share: float = 0.0,
) -> Tensor:
    """AsymLoc's geometric matching loss: means over the points of which the teacher is sure in view
    a, and in view b, added.

    Where the teacher is sure of fewer than `least_share` of the points, that share of them counts,
    the surest.
    """
    missing = -log_mutual_match(teacher_a, student_b, temperature=temperature).diagonal()
    total = missing.sum() * 0
    for confidences in (teacher_a.confidences, teacher_b.confidences):
        surest = float(confidences.quantile(1 - least_share)) if least_share else least_confidence
        sure = confidences > min(least_confidence, surest)
        if bool(sure.any()):
            total = total + missing[sure].mean()
    return total


def weighted_similarities(
    first: Described,
    second: Described,
    *,
    temperature: float = 0.1,
    first_temperature: float = 1.0,
    second_temperature: float = 1.0,
) -> Tensor:
    """(N, M) similarities times both points' confidences, each divided by its network's
    temperature."""
    similarities = first.descriptors @ second.descriptors.T / temperature
    return (
        (first.confidences / first_temperature)[:, None]
        * similarities
        * (second.confidences / second_temperature)[None]
    )


def distillation_divergences(target: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) and (M,) Kullback-Leibler divergences of the softmax of `output` from that of `target`,
    by row and by column."""
    along = []
    for dim in (1, 0):
        log_target = target.detach().log_softmax(dim=dim)
        along.append((log_target.exp() * (log_target - output.log_softmax(dim=dim))).sum(dim=dim))
    return along[0], along[1]


def joint_distillation_loss(
    teacher_a: Described,
    student_b: Described,
    teacher_b: Described,
    *,
    temperature: float = 0.1,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """AsymLoc's joint distillation of detector and descriptor: means over rows and columns, for
    both orders of the views.

    The student sees view b alone, so that the second order is the first one's transpose, and counts
    as much.
    """
    target = weighted_similarities(
        teacher_a,
        teacher_b,
        temperature=temperature,
        first_temperature=teacher_temperature,
        second_temperature=teacher_temperature,
    )
    found = weighted_similarities(
        teacher_a,
        student_b,
        temperature=temperature,
        first_temperature=teacher_temperature,
        second_temperature=student_temperature,
    )
    rows, columns = distillation_divergences(target, found)
    return 2 * (rows.mean() + columns.mean())


def naive_loss(student: Described, teacher: Described) -> Tensor:
    """The plain distillation on one view: what descriptors lack in cosine, and the cross-entropy of
    confidences."""
    lacking = 1 - (student.descriptors * teacher.descriptors).sum(dim=1).mean()
    return lacking + nn.functional.binary_cross_entropy(
        student.confidences, teacher.confidences.detach()
    )
