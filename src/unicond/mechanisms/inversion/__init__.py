"""Inversion: find the start, and the noises, that lead back to a given picture."""
