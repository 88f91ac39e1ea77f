"""GeoWarp: a learned warp of two photos to one viewpoint, and the comparison after it."""
