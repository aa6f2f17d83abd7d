"""Where an agent connects, and which namespaces it tries there."""

from __future__ import annotations

import pytest

from supervisor.platform.endpoint import KNOWN_NAMESPACES, Endpoint, namespace_candidates


@pytest.mark.parametrize(
    ("url", "setting", "expected"),
    [
        ("wss://host/dev/aiwm/chat", "auto", ("/dev/aiwm/chat", *KNOWN_NAMESPACES)),
        ("wss://host/dev/aiwm/chat/", "auto", ("/dev/aiwm/chat", *KNOWN_NAMESPACES)),
        ("wss://host/ws", "auto", ("/ws", "/chat", "/ws/chat")),
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
    target = endpoint.target("/b")
    assert (target.url, target.namespace, target.engine_path) == ("wss://host:8443/x", "/b", "/engine")
    assert (target.token_via, target.proxy) == ("header", "http://ann:pass@proxy")
    assert "pass" not in repr(endpoint)
    assert "pass" not in repr(target)
