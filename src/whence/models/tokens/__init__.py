"""Tokens: one vector for each frame of a drive (DeltaTok), forecasts of the next (DeltaWorld), and
short forms of long texts."""
