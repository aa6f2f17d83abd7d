"""Where an agent connects: which namespaces and engine paths it tries there, and which way comes next. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Final
from urllib.parse import urlsplit

from supervisor.core.errors import ConnectError, Verdict
from supervisor.platform.hosts.facts import Way
from supervisor.platform.transport import Target, TokenVia

ROOT: Final = "/"
#: The agents' gateway of the third generation, in its second stage.
AGENTS_NAMESPACE: Final = "/ws/agent"
#: A namespace that may deliver and handle nothing: only an acknowledged event proves a socket there
#: (docs/protocol.md#82-proof-of-being-registered).
DOUBTFUL_NAMESPACE: Final = "/ws/chat"
#: Namespaces that deployments of the platform use (docs/protocol.md#2-addresses, docs/protocol.md#81-where). The root
#: comes last: older generations take anybody there and deliver nothing.
KNOWN_NAMESPACES: Final = ("/chat", "/ws", DOUBTFUL_NAMESPACE, AGENTS_NAMESPACE, ROOT)
#: Where Engine.IO is unless a proxy wants another path.
ENGINE_PATH: Final = "/socket.io"
#: Where the third generation has its agents, and people, behind one host.
KNOWN_PATHS: Final = ("/agent/socket.io", "/chat/socket.io")
#: A fleet has one URL or a few, which are read again at every step of each agent.
_URLS: Final = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one agent connects.

    Args:
        url: the platform's Socket.IO URL; only its scheme and host count.
        namespaces: candidates, the likeliest first.
        engine_path: the HTTP path of the upgrade.
        token_via: how the token is passed.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
        other_paths: where to look when ``engine_path`` proves to be wrong.
    """

    url: str
    namespaces: tuple[str, ...]
    engine_path: str
    token_via: TokenVia
    proxy: str | None = field(repr=False)
    other_paths: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host whose rates apply."""
        return host_of(self.url)

    def target(self, way: Way) -> Target:
        """The transport's target for one candidate."""
        return Target(self.url, way.namespace, way.engine_path, self.token_via, self.proxy)


@lru_cache(_URLS)
def host_of(url: str) -> str:
    """The host of a URL as rates and outages are kept by it, with its port where it names one."""
    return urlsplit(url).netloc


@lru_cache(_URLS)
def namespace_candidates(ws_url: str, ws_namespace: str) -> tuple[str, ...]:
    """The namespaces to try for a URL: the one that is set, or for ``auto`` the URL's path and the known ones."""
    if ws_namespace != "auto":
        return (ws_namespace,)
    path = urlsplit(ws_url).path.rstrip("/")
    return tuple(dict.fromkeys([path, *KNOWN_NAMESPACES])) if path else KNOWN_NAMESPACES


@lru_cache(_URLS)
def path_candidates(ws_url: str, ws_path: str) -> tuple[str, ...]:
    """The engine paths to look at when ``ws_path`` is wrong: none where it was chosen, else those that are known.

    A proxy may want the usual one behind the URL's path or a part of it.
    """
    if ws_path != ENGINE_PATH:
        return ()
    parts = [part for part in urlsplit(ws_url).path.split("/") if part]
    prefixes = ["/" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return tuple(dict.fromkeys([*KNOWN_PATHS, *(prefix + ENGINE_PATH for prefix in prefixes)]))


class Search:
    """Which way in comes next, and what all attempts came to.

    ``Invalid namespace`` moves on to the next namespace, a wrong path to the next path. So does being deaf where a
    platform is known to take agents and not to serve them; elsewhere it is an illness. Any other failure ends the
    search.

    Args:
        endpoint: the candidates.
        last: the way that worked last, for whichever agent; tried first where it is a candidate. The others stay
            candidates, because a platform may be rebuilt.
    """

    def __init__(self, endpoint: Endpoint, last: Way | None) -> None:
        self._endpoint = endpoint
        self._paths = (endpoint.engine_path, *endpoint.other_paths)
        self.last = last if last is not None and last in self._all() else None
        self._wrong: dict[str, ConnectError] = {}
        self._deaf: ConnectError | None = None
        self._deaf_at_root: ConnectError | None = None
        self._missing = False

    def _all(self) -> Iterator[Way]:
        return (Way(namespace, path) for path in self._paths for namespace in self._endpoint.namespaces)

    def ways(self) -> Iterator[Way]:
        """The ways to try, one after the other; what was told of earlier ones leaves some out."""
        first = () if self.last is None else (self.last,)
        for way in chain(first, (way for way in self._all() if way != self.last)):
            if way.engine_path in self._wrong:
                continue
            if way.engine_path != self._paths[0] and way != self.last and self._paths[0] not in self._wrong:
                # A path that is right has no other beside it.
                return
            yield way

    def is_over(self, way: Way, error: ConnectError) -> bool:
        """Take note of a failure; whether it is one that no other way may cure."""
        if error.wrong_path and self._endpoint.other_paths:
            self._wrong[way.engine_path] = error
        elif error.invalid_namespace:
            self._missing = True
        elif error.deaf and way.namespace == ROOT:
            self._deaf_at_root = error
        elif error.deaf and way.namespace == DOUBTFUL_NAMESPACE:
            self._deaf = self._deaf or error
        else:
            return True
        return False

    def failure(self) -> ConnectError:
        """What to say when no way led in: the failure that tells most."""
        if self._deaf is not None:
            return self._deaf
        if self._missing:
            tried = ", ".join(self._endpoint.namespaces)
            return ConnectError(
                f"Invalid namespace; tried {tried}: set SUPERVISOR_WS_NAMESPACE", Verdict.REJECT, invalid_namespace=True
            )
        return self._deaf_at_root or self._wrong[self._paths[0]]
