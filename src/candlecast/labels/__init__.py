"""Pure functions from prices to what happened after each bar, and when it was known."""
