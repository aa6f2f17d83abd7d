"""Where an agent connects, and which namespaces it tries there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from supervisor.platform.transport import Target, TokenVia

#: Namespaces that deployments of the platform were seen to use (docs/protocol.md#2-addresses). The root is never one.
KNOWN_NAMESPACES: Final = ("/chat", "/ws", "/ws/chat")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one agent connects.

    Args:
        url: the platform's Socket.IO URL; only its scheme and host count.
        namespaces: candidates, the likeliest first; only ``Invalid namespace`` moves on to the next.
        engine_path: the HTTP path of the upgrade.
        token_via: how the token is passed.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    url: str
    namespaces: tuple[str, ...]
    engine_path: str
    token_via: TokenVia
    proxy: str | None = field(repr=False)

    @property
    def host(self) -> str:
        """The host whose rates apply."""
        return host_of(self.url)

    def target(self, namespace: str) -> Target:
        """The transport's target for one candidate."""
        return Target(self.url, namespace, self.engine_path, self.token_via, self.proxy)


def host_of(url: str) -> str:
    """The host of a URL as rates and outages are kept by it, with its port where it names one."""
    return urlsplit(url).netloc


def namespace_candidates(ws_url: str, ws_namespace: str) -> tuple[str, ...]:
    """The namespaces to try for a URL: the one that is set, or for ``auto`` the URL's path and the known ones."""
    if ws_namespace != "auto":
        return (ws_namespace,)
    path = urlsplit(ws_url).path.rstrip("/")
    return tuple(dict.fromkeys([path, *KNOWN_NAMESPACES])) if path else KNOWN_NAMESPACES
