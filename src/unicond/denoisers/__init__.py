"""Denoisers: all branches in, all predictions out."""
