"""One module a revision. What a revision did is never changed afterwards: databases out there have run it."""
