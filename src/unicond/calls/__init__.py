"""What one call of a model is made of, from what a caller gives to pictures with their record."""
