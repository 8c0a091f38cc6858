"""One way through the data each."""
