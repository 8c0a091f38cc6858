"""What can only be found out on a GPU, each part in a process of its own: `python -m benchmarks.gpu`."""
