"""The sampling core: one loop, and the nouns it speaks of (see `loop.run`)."""
