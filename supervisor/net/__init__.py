"""What all HTTP clients of ours share: the session and its TLS, and trouble below HTTP in words.

May import the core and the protocol. What an answer of the platform means belongs to :mod:`supervisor.platform`; the
handlers' own clients belong to the handlers.
"""

__all__ = ["session", "tls", "trouble"]
