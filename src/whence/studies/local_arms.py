"""What the study of local features compares, by name."""

from __future__ import annotations

TIERS = ("sift", "student-xs", "student-s", "student-m", "student-l", "silk", "strided")
ALONE, STRANGER, TEACHER = "student alone", "student alone, map by the teacher", "teacher"
PAIRINGS: dict[str, str] = {
    TEACHER: "",
    ALONE: "silk",
    STRANGER: "silk",
    "naive": "naive",
    "matching loss alone": "matching",
    "distillation alone": "distillation",
    "joint": "joint",
}
"""Who asks the teacher's map, but for `ALONE`, which asks its own; and the student's loss."""
CLASSIC = ("SIFT", "FAST", "Harris")
ALPHAS = (0.0, 1.0, 10.0, 20.0)
NUM_POINTS = (50, 200)
FEATURES = ("rootsift-mnn", "whence-local", "whence-local-to-aliked", "aliked-mnn")
SAME, OTHER = "same", "other"
LIGHTS = (SAME, OTHER)
