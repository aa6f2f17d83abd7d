"""Access tokens: asking the platform for them, and keeping one for each agent fresh (docs/protocol.md#1-tokens).

May import the platform's API client and gates, and what is below. When a token is renewed belongs to
:mod:`supervisor.fleet`; where a secret is read, to :mod:`supervisor.settings.secrets`.
"""

from supervisor.platform.tokens.client import TokenClient
from supervisor.platform.tokens.grants import Grant
from supervisor.platform.tokens.keeping import KeptTokens
from supervisor.platform.tokens.source import TokenSource

__all__ = ["Grant", "KeptTokens", "TokenClient", "TokenSource"]
