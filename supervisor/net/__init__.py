"""What all HTTP clients of ours share: the session and its TLS, and trouble below HTTP in words.

May import the core and the protocol. What an answer of the platform means belongs to :mod:`supervisor.platform`; the
handlers' own clients belong to the handlers.
"""

from supervisor.net.session import RedirectRefusedError, Session
from supervisor.net.tls import tls_context
from supervisor.net.trouble import (
    describe_error,
    mask_secret,
    one_line,
    proxy_answered,
    redirect_host,
    retry_after,
    was_broken_off,
)

__all__ = [
    "RedirectRefusedError",
    "Session",
    "describe_error",
    "mask_secret",
    "one_line",
    "proxy_answered",
    "redirect_host",
    "retry_after",
    "tls_context",
    "was_broken_off",
]
