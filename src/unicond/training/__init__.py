"""Trainers: everything that ships is trained by this package, from the world alone."""
