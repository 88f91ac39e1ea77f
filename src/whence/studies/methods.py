"""Names that grids list and runs measure: methods that put candidates in order, and conditions."""

from __future__ import annotations

PLAIN = "no re-ranking"
ADAPTIVE = "when unsure: "
"""Before a method: candidates are compared only until one is surely right."""
ALL = "all"
"""The condition of every query."""
SEARCHED_AGAIN = ("query expansion", "database augmentation", "both expanded", "diffusion")
READOUTS = ("features", "half", "hybrid", "exact")
EXACT = "GeoWarp exact"
"""The published way, which the others are compared with."""
