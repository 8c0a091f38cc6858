"""Local weights: where they come from, loading them, adapters, size."""
