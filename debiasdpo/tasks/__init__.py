"""One module a task: what a job does, from top to bottom."""
