"""Two photos compared, as records: the points they share, or the parts that a scorer finds the same
from one viewpoint."""

from __future__ import annotations

from typing import Any

from whence.data.photos import Photos
from whence.data.pictures import WarpedPair, WarpScorer
from whence.errors import BadOption
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import rerank_options
from whence.models.descriptor import read_as
from whence.types import EncodedPhoto, Match


def match_record(match: Match) -> dict[str, Any]:
    """Plain values of a match, as `whence match --json` prints them; points of inliers only."""
    return {
        "is_match": match.is_match,
        "confidence": match.confidence,
        "num_keypoints": list(match.num_keypoints),
        "num_matches": match.num_matches,
        "num_inliers": match.num_inliers,
        "coverage": match.coverage,
        "model": match.model,
        "matrix": None if match.matrix is None else match.matrix.tolist(),
        "size0_px": list(match.size0_px),
        "size1_px": list(match.size1_px),
        "inliers0": match.points0[match.is_inlier].round(2).tolist(),
        "inliers1": match.points1[match.is_inlier].round(2).tolist(),
        "reason": match.reason,
    }


def warp_record(pair: WarpedPair) -> dict[str, Any]:
    """Plain values of a warped pair; corners go from -1 to 1."""
    return {
        "similarity": pair.similarity,
        "whole_similarity": pair.whole_similarity,
        "quad0": pair.quad0.tolist(),
        "quad1": pair.quad1.tolist(),
        "cells": pair.cells.astype(float).round(4).tolist(),
    }


def warp_pair(scorer: str, photo0: EncodedPhoto, photo1: EncodedPhoto) -> WarpedPair:
    """The parts that a scorer that warps finds on two photos. Raises `BadOption` for another
    scorer, `UnreadableImage`, `ModelError`."""
    prepared = PreparedPhotos.for_options(rerank_options(scorer), Photos.of([]))
    if not isinstance(prepared.scorer, WarpScorer):
        raise BadOption(
            f"{scorer} finds nothing to show of two photos: ask for inliers, or one that warps, "
            "as geowarp"
        )
    steps = prepared.card.preprocessing
    return prepared.scorer.compare(*(read_as(photo, steps) for photo in (photo0, photo1)))
