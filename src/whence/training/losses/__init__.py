"""Losses: over descriptors and labels, over tuples, and GeoWarp's."""
