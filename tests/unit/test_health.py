"""The health check that container engines run: what it says of a service, and with which exit code."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from supervisor.health import trouble

#: What each path of the test's service answers.
ANSWERS = {
    "/readyz": (200, '{"ready": true}'),
    "/ill": (503, '{"ready": false,\n "problems": ["draining"]}'),
    "/away": (302, ""),
}


class Service(http.server.BaseHTTPRequestHandler):
    """Answers as :data:`ANSWERS` has it."""

    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Location", "/readyz")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Nothing to standard error."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check(*args: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "supervisor.health", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def test_a_service_that_is_well_is_healthy(url: str) -> None:
    assert check(f"{url}/readyz") == (0, "")


def test_one_that_is_ill_is_not_and_its_answer_is_told_in_one_line(url: str) -> None:
    said = f'{url}/ill answered 503: {{"ready": false, "problems": ["draining"]}}'
    assert check(f"{url}/ill") == (1, said)


def test_a_redirection_is_no_health(url: str) -> None:
    assert "answered 302" in trouble(f"{url}/away")


def test_a_proxy_of_the_environment_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert trouble(f"{url}/readyz") == ""


def test_a_service_that_accepts_and_says_nothing_is_given_up(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        said = trouble(f"http://127.0.0.1:{mute.getsockname()[1]}/readyz", timeout_seconds=0.2)
    assert "does not answer: timed out" in said


def test_a_port_where_nobody_listens_is_told() -> None:
    assert "does not answer" in trouble("http://127.0.0.1:1/readyz")


@pytest.mark.parametrize("url", ["", "readyz", "https://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://[/"])
def test_what_is_no_address_is_told(url: str) -> None:
    assert "is no URL" in trouble(url) or "is not an address" in trouble(url)


def test_of_several_the_first_that_answers_counts(url: str) -> None:
    """As in a container, which runs the supervisor or the sandbox."""
    nobody = "http://127.0.0.1:1/readyz"
    assert check(nobody, f"{url}/readyz") == (0, "")
    assert trouble(f"{url}/ill", f"{url}/readyz").startswith(f"{url}/ill answered 503")
    assert trouble(nobody, "http://127.0.0.1:2/").count("does not answer") == 2


def test_it_wants_a_url() -> None:
    assert check() == (1, "usage: python -m supervisor.health URL…")


def test_it_loads_the_standard_library_alone() -> None:
    """It runs every few seconds for as long as a container lives."""
    slow = ("typer", "pydantic", "msgspec", "asyncio")
    code = f"import sys, supervisor.health; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
