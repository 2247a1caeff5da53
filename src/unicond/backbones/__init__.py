"""Base models: loading, and pictures and prompts in and out."""
