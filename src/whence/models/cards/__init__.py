"""Cards: what a person must know about each model before using it. Data only, no torch."""
