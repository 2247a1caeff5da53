"""Adapters that say where things are: GLIGEN's boxes, InteractDiffusion's interactions, MIGC."""
