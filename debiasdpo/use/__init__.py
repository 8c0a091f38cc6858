"""What a finished run is good for: its rater rates new documents, and a gate judges it."""
