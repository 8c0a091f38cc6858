"""Bias elicitation: prompts that try to draw out a stereotype, attacks on them, labels of replies, safety."""
