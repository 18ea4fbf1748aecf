"""Is all well? Pure functions from frames to findings."""
