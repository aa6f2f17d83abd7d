"""Commands find a supervisor that answers among those that run a registry, and ask no other registry's."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from supervisor.cli import live
from supervisor.core.replicas import LIVING, ReplicaStatus
from supervisor.core.status import InboxCounts, Overview
from supervisor.settings import Settings
from tests.support import postgres

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.new_database() as made:
        yield made


@contextmanager
def answering(registry_uuid: str) -> Iterator[str]:
    """A port where the admin API says what it is of; its address."""
    overview = Overview("1", 7, registry_uuid, 0.0, {}, InboxCounts())

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(overview))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def register(url: str, address: str, *, draining: bool = False, seconds: int = 0) -> None:
    """Have a supervisor at an address in the registry, whose last beat was so long ago."""
    said = json.dumps({"address": address, "pid": 7, "host": "there"})
    postgres.on_server(
        "INSERT INTO replicas (id, said, draining, beat_at) "
        "VALUES (nextval('replica_id'), $1, $2, clock_timestamp() - make_interval(secs => $3))",
        *(said, draining, seconds),
        url=url,
    )


def settings(url: str) -> Settings:
    return Settings(registry_url=url)


def test_one_that_does_not_answer_hides_no_other(url: str) -> None:
    with answering("u-1") as address:
        register(url, address)
        register(url, CLOSED)
        found = live.find(settings(url), "u-1")
        assert found is not None
        assert found.url == address


def test_one_that_lives_and_stays_is_asked_first(url: str) -> None:
    with answering("u-1") as staying, answering("u-1") as leaving, answering("u-1") as late:
        register(url, staying)
        register(url, leaving, draining=True)
        register(url, late, seconds=60)
        found = live.find(settings(url))
        assert found is not None
        assert found.url == staying


def test_where_none_answers_the_first_one_is_named(url: str) -> None:
    register(url, CLOSED)
    with pytest.raises(live.UnreachableError, match=r"pid 7 on there.* does not answer at http://127\.0\.0\.1:9"):
        live.find(settings(url))


def test_another_registrys_is_not_asked(url: str) -> None:
    with answering("u-2") as address:
        register(url, address)
        with pytest.raises(live.UnreachableError, match="runs another registry"):
            live.find(settings(url), "u-1")


def test_where_nobody_is_registered_none_runs(url: str) -> None:
    assert live.find(settings(url)) is None


def test_this_one_is_the_replica_of_this_host_where_it_has_one() -> None:
    here, there = socket.gethostname(), "another-host"
    # Whoever answered says that it is meant, and the newest is not always the one of this host.
    mine, newest = ReplicaStatus(1, LIVING, host=here), ReplicaStatus(2, LIVING, host=there, me=True)
    assert [one.me for one in live.marked([mine, newest])] == [True, False]
    second = ReplicaStatus(3, LIVING, host=here)
    assert not any(one.me for one in live.marked([mine, newest, second])), "nobody can tell which of two is meant"
    assert not any(one.me for one in live.marked([newest]))
