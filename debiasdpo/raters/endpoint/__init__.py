"""A model behind an OpenAI-compatible endpoint as a rater. Nothing here needs torch."""
