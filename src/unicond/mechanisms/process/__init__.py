"""Revising the diffusion process: the reverse step itself knows what was measured."""
