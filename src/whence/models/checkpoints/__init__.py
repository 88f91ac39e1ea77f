"""Weights: where their files lie, how they are read, and how they fill a network."""
