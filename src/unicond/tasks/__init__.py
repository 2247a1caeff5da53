"""What users ask for by name: an edit, a restoration, a composition, a layout.

A task is a frozen set of choices; running it chooses mechanisms, a plan and a start, and calls the
model once. It is recorded in what it makes, so that `rerun` finds all of that again.
"""
