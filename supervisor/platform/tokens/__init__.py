"""Access tokens: asking the platform for them, and keeping one per agent fresh."""

from supervisor.platform.tokens.client import TokenClient
from supervisor.platform.tokens.grants import Grant
from supervisor.platform.tokens.source import TokenSource

__all__ = ["Grant", "TokenClient", "TokenSource"]
