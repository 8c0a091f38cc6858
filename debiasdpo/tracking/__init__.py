"""Where a run can be watched: Weights & Biases, or nowhere."""
