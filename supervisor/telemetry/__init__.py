"""What can be seen: logs, events, figures, traces."""
