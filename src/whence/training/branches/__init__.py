"""Branches: the sources that a training learns from. Their names stand in
`whence.training.parts`."""
