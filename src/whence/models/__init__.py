"""From pixels to numbers: local descriptors, global descriptors, and the models behind names. No
search, no pipeline here."""
