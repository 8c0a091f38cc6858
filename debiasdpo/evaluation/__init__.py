"""From ratings to metrics: the audit, the comparison of two methods, and the list of all metrics."""
