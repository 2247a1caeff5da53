"""Several models aggregated while they sample (AMDM)."""
