"""The HTTP API and the dashboard that it serves."""
