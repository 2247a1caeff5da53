"""Training on one's own pictures."""
