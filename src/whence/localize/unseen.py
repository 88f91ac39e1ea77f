"""What candidates that were not compared may show: the best wrong one of so many, as rendered
cities know it.

The usual shortlist holds one photo of another place that shares more with the query than the others
do. Where comparing ended before all were seen, early or for want of time, it may be among the rest:
what they may show counts against the best one so far.
"""

from __future__ import annotations

import numpy as np

NUM_RIVALS = 20
"""Candidates of the shortlists that were looked at."""
MATCH_SHARES = (
    *(0.020, 0.026, 0.029, 0.031, 0.033, 0.035, 0.037, 0.039, 0.041, 0.043),
    *(0.045, 0.048, 0.050, 0.054, 0.058, 0.064, 0.071, 0.082, 0.099, 0.148),
)
"""Matches over keypoints of the best wrong candidate of a shortlist: quantiles at 1/40, 3/40, ...
39/40 over the queries."""
INLIERS = (*[0.0] * 14, 9.0, 11.0, 14.0, 19.0, 31.0, 62.0)
"""The same of its inliers, 0 where they are as few as chance gives. `tools/fit_unseen.py` prints
both."""
_LEVELS = (np.arange(len(INLIERS)) + 0.5) / len(INLIERS)


def unseen_rivals(num: int, num_keypoints: int) -> np.ndarray:
    """Inliers and matches (S, 2) of the best of `num` wrong candidates, S cases equally likely; of
    none (1, 2) zeros.

    `num_keypoints`: of the photo of the pair that has fewer. Candidates are taken to be
    independent.
    """
    if num <= 0:
        return np.zeros((1, 2))
    # The best of so many lies below a value as often as the best of all does by this power.
    levels = _LEVELS ** (NUM_RIVALS / min(num, NUM_RIVALS))
    inliers, shares = (np.interp(levels, _LEVELS, values) for values in (INLIERS, MATCH_SHARES))
    return np.stack([inliers, shares * num_keypoints], axis=1)
