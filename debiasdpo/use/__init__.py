"""What a finished run is good for: its rater rates new documents, leaves for elsewhere, and guards a gate."""
