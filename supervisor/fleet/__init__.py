"""The fleet, and the life of each of its agents."""
