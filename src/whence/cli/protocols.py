"""Protocols of `whence evaluate` that are a way of their own: by name, what evaluates a folder with
a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from whence.cli.landmarks import evaluate_landmarks
from whence.cli.orbital import evaluate_photos_from_orbit
from whence.cli.registration_evaluation import evaluate_registration

PROTOCOLS: Mapping[str, Callable[..., int]] = {
    "revisited": evaluate_landmarks,
    "earthloc": evaluate_photos_from_orbit,
    "registration": evaluate_registration,
}
