"""Attention manipulation: read attention on one path, write it on another."""
