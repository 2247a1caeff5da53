"""Guidance: move the state along a gradient."""
