"""What training and rating cost here and elsewhere, on the same weights and tokens. See README.md."""
