"""Photos in: pixels, metadata, positions, tables, the field's dataset layouts. No models here."""
