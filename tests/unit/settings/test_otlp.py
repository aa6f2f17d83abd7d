"""What the settings of the collector mean."""

from __future__ import annotations

import pytest

from supervisor.settings.otlp import request_headers, resource_attributes, traces_url


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector.example/otlp", "https://collector.example/otlp/v1/traces"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
        ("https://collector.example/otlp?tenant=a", "https://collector.example/otlp/v1/traces?tenant=a"),
    ],
)
def test_traces_go_to_the_path_of_traces(endpoint: str, expected: str) -> None:
    assert traces_url(endpoint) == expected


def test_headers_are_pairs() -> None:
    assert request_headers("") == {}
    assert request_headers("x-key=a=b, Authorization=Bearer  t0ken ,") == {
        "x-key": "a=b",
        "Authorization": "Bearer  t0ken",
    }


@pytest.mark.parametrize("text", ["s3cret", "=s3cret", "x y=s3cret", "x=", "x=s3cret\r\nHost: a", "x=s3crét"])
def test_what_is_no_header_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="name=value") as caught:
        request_headers(text)
    assert "s3cr" not in str(caught.value)


def test_attributes_of_the_resource_are_pairs() -> None:
    assert resource_attributes("") == {}
    assert resource_attributes(" k8s.cluster.name = one,team=a=b ,") == {"k8s.cluster.name": "one", "team": "a=b"}
    for text in ("one", "=one", "name="):
        with pytest.raises(ValueError, match="name=value"):
            resource_attributes(text)
