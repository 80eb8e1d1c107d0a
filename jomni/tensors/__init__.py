"""Names and bytes of weight files: readers, weight maps, streaming into parameters, writing. Knows no model."""
