"""Conditional correction: mend the state after the step."""
