"""The arms of the study of compressed logs."""

from __future__ import annotations

from collections.abc import Mapping

PLAIN = "plain"
COMPRESSED: Mapping[str, int] = {"2 tokens a vector": 2, "4 tokens a vector": 4}
WHOLE = "2 a vector, whole log at once"
MEANS, EVERY_SECOND, LAST_HALF = "means of two tokens", "every second token", "last half"
"""How a log is shortened without learning."""
ANSWERS = (PLAIN, *COMPRESSED, WHOLE, MEANS, EVERY_SECOND, LAST_HALF)
LENGTHS = (4, 8, 16, 32, 64, 128)
"""Records of a log; training sees at most 16, or what the option records says."""
ANEW, CACHED = "compressed anew", "compressed before"
READING = (PLAIN, ANEW, CACHED)
THOUSANDS = (1, 2, 4, 8, 16, 32)
"""Thousands of tokens."""
