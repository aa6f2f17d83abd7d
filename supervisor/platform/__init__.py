"""The platform as one agent meets it."""
