"""Evaluations as frames, plots, pages and files."""
