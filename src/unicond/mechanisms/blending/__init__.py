"""Noise blending: combine several predictions of one step."""
