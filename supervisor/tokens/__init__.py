"""Access tokens: asking the platform for them, and keeping one per agent fresh (PROTOCOL §1, DESIGN §3)."""

from supervisor.tokens.client import JobPool, TokenClient
from supervisor.tokens.grants import Grant
from supervisor.tokens.source import TokenSource

__all__ = ["Grant", "JobPool", "TokenClient", "TokenSource"]
