"""Knows SQL; takes and returns frames; SQLite or Postgres."""
