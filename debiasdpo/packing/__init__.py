"""Prefix trees: packing, attention over them, log-probabilities, generation, token ids."""
