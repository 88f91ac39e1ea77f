"""Cells of a map: which one a photo was taken in, told without any database photo, and search among
the photos of the likeliest."""
