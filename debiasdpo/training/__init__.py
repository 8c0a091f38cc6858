"""From preference pairs to trained weights."""
