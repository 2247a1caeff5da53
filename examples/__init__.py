"""One short file for each thing that users ask for; `python -m examples` runs them all."""
