"""Finds handlers and gives all their forms one shape."""
