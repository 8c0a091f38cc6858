"""What is asked: statements of spurious context, rendering, and which prompts an audit has."""
