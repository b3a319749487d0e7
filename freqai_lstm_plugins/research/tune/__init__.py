"""Search over a model's settings, and whether what it found is luck."""
