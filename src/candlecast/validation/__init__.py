"""Out-of-sample forecasts, and whether their skill is more than luck."""
