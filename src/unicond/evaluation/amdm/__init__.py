"""`unicond table amdm`: what aggregating several models gives, on held-out scenes of the world."""
