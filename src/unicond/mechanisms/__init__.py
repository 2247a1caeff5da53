"""The survey's six mechanisms, one file a method."""
