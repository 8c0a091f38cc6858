"""The stages of a job: each finds its output by fingerprint, or makes it, resuming where it was."""
