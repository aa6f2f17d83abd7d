"""Where an agent connects, and which namespaces it tries there."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import ConnectError, Verdict
from supervisor.platform.endpoint import KNOWN_NAMESPACES, Endpoint, Search, namespace_candidates, path_candidates
from supervisor.platform.hosts.facts import Way


@pytest.mark.parametrize(
    ("url", "setting", "expected"),
    [
        ("wss://host/dev/aiwm/chat", "auto", ("/dev/aiwm/chat", *KNOWN_NAMESPACES)),
        ("wss://host/dev/aiwm/chat/", "auto", ("/dev/aiwm/chat", *KNOWN_NAMESPACES)),
        ("wss://host/ws", "auto", ("/ws", "/chat", "/ws/chat", "/ws/agent", "/")),
        ("wss://host", "auto", KNOWN_NAMESPACES),
        ("wss://host/", "auto", KNOWN_NAMESPACES),
        ("wss://host/chat", "/other", ("/other",)),
        ("wss://host/chat", "/", ("/",)),
    ],
)
def test_the_namespaces_of_a_url(url: str, setting: str, expected: tuple[str, ...]) -> None:
    assert namespace_candidates(url, setting) == expected


def test_an_endpoint_is_a_target_for_each_namespace() -> None:
    endpoint = Endpoint("wss://host:8443/x", ("/a", "/b"), "/engine", "header", "http://ann:pass@proxy")
    assert endpoint.host == "host:8443"
    target = endpoint.target(Way("/b", "/engine"))
    assert (target.url, target.namespace, target.engine_path) == ("wss://host:8443/x", "/b", "/engine")
    assert (target.token_via, target.proxy) == ("header", "http://ann:pass@proxy")
    assert "pass" not in repr(endpoint)
    assert "pass" not in repr(target)


@pytest.mark.parametrize(
    ("url", "setting", "expected"),
    [
        ("wss://host", "/socket.io", ("/agent/socket.io", "/chat/socket.io")),
        (
            "wss://host/dev/aiwm",
            "/socket.io",
            ("/agent/socket.io", "/chat/socket.io", "/dev/aiwm/socket.io", "/dev/socket.io"),
        ),
        ("wss://host/agent", "/socket.io", ("/agent/socket.io", "/chat/socket.io")),
        ("wss://host/dev/aiwm", "/my/socket.io", ()),
    ],
)
def test_the_engine_paths_of_a_url(url: str, setting: str, expected: tuple[str, ...]) -> None:
    assert path_candidates(url, setting) == expected


MISSING = ConnectError("no namespace", invalid_namespace=True)
WRONG = ConnectError("no Socket.IO", no_engine=True)
DEAF = ConnectError("no presence", deaf=True)
KICKED = ConnectError("kicked", Verdict.REAUTHENTICATE, kicked=True)
#: A platform: what comes of each way; a registration where nothing is named.
Outcomes = dict[tuple[str, str], ConnectError]


def search(outcomes: Outcomes, last: Way | None = None, **endpoint: Any) -> tuple[list[tuple[str, str]], object]:
    """The ways that are tried, and what comes of them: the way in, or the failure."""
    namespaces, others = endpoint.get("namespaces", ("/ws/chat", "/")), endpoint.get("others", ("/agent/socket.io",))
    made = Search(Endpoint("wss://host", namespaces, "/socket.io", "auth", None, others), last)
    tried = []
    for way in made.ways():
        tried.append((way.namespace, way.engine_path))
        error = outcomes.get(tried[-1])
        if error is None:
            return tried, way
        if made.is_over(way, error):
            return tried, error
    return tried, made.failure()


HERE, THERE = "/socket.io", "/agent/socket.io"


def test_a_wrong_path_leads_to_the_next_path_and_a_missing_namespace_to_the_next_namespace() -> None:
    stage_iii: Outcomes = {("/ws/chat", HERE): WRONG, ("/ws/chat", THERE): MISSING}
    assert search(stage_iii) == ([("/ws/chat", HERE), ("/ws/chat", THERE), ("/", THERE)], Way("/", THERE))
    # What worked last comes first; where it is gone all the others are tried.
    assert search(stage_iii, Way("/", THERE)) == ([("/", THERE)], Way("/", THERE))
    rebuilt: Outcomes = {("/", THERE): WRONG}
    assert search(rebuilt, Way("/", THERE)) == ([("/", THERE), ("/ws/chat", HERE)], Way("/ws/chat", HERE))


def test_a_path_that_is_right_has_no_other_beside_it() -> None:
    assert search({("/ws/chat", HERE): MISSING, ("/", HERE): MISSING})[0] == [("/ws/chat", HERE), ("/", HERE)]


def test_deaf_is_an_illness_but_where_platforms_are_known_to_be_so() -> None:
    assert search({("/ws/chat", HERE): DEAF}) == ([("/ws/chat", HERE), ("/", HERE)], Way("/", HERE))
    assert search({("/ws", HERE): DEAF}, namespaces=("/ws", "/")) == ([("/ws", HERE)], DEAF)


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ({("/ws/chat", HERE): KICKED}, "kicked"),
        ({("/ws/chat", HERE): DEAF, ("/", HERE): MISSING}, "no presence"),
        ({("/ws/chat", HERE): MISSING, ("/", HERE): DEAF}, "Invalid namespace; tried /ws/chat, /: set"),
        ({("/ws/chat", HERE): WRONG, ("/ws/chat", THERE): WRONG}, "no Socket.IO"),
        ({("/ws/chat", HERE): WRONG, ("/ws/chat", THERE): KICKED}, "kicked"),
    ],
)
def test_what_is_said_when_no_way_leads_in(outcomes: Outcomes, said: str) -> None:
    _, error = search(outcomes)
    assert isinstance(error, ConnectError)
    assert error.reason.startswith(said)
