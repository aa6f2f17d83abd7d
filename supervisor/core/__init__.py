"""The words that everybody uses: errors, states, records, status, time.

May import the protocol alone, and does no I/O. A word that only one room uses belongs to that room; whatever reads,
writes, waits for the network or decides belongs above.
"""

__all__ = ["backoff", "clock", "command_words", "errors", "records", "states", "status"]
