"""Local descriptors: keypoints, patches, and what pairs them by itself."""
