"""Generated places with exact truth: a city of streets that renders from a seed. Not here: reading
data sets (`whence.data`)."""
