"""Access tokens: asking the platform for them, and keeping one per agent fresh (PROTOCOL §1, DESIGN §3)."""

from supervisor.platform.tokens.client import JobPool, TokenClient
from supervisor.platform.tokens.grants import Grant
from supervisor.platform.tokens.source import TokenSource

__all__ = ["Grant", "JobPool", "TokenClient", "TokenSource"]
