"""A message's way: inbox, lanes, handler, outbox."""
