"""Builds everything once, starts it, watches it, drains it."""
