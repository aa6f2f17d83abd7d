"""Network trouble in words, and waits that the platform asks for."""

from __future__ import annotations

import errno
import socket
import ssl
from email.utils import formatdate

import pytest

from supervisor.net import describe_error, mask_secret, one_line, proxy_answered, redirect_host, retry_after
from supervisor.net.trouble import MAX_REASON_CHARS

NOW = 1_800_000_000.0
PROXY = "http://ann:s3cret@proxy:3128"


class Met(OSError):
    """An error of connecting, as the HTTP client makes them."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.host, self.port, self.os_error = host, port, cause


class Untrusted(Met):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, OSError(1, "certificate verify failed"))
        self.certificate_error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        self.certificate_error.verify_message = reason


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 443)")
ODD = OSError(5, "odd\x1b[31m")
UNKNOWN = socket.gaierror(-2, "Name or service not known")
TLS = ssl.SSLError(1, "wrong version number")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Met("api", 443, REFUSED), "the connection to api failed: Connection refused"),
        (Met("proxy", 3128, REFUSED), "the proxy proxy cannot be reached: Connection refused"),
        (Met("api", 443, ODD), "the connection to api failed: odd[31m"),
        # Another port of the proxy's host is not the proxy.
        (Met("proxy", 443, REFUSED), "the connection to proxy failed: Connection refused"),
        (Met("api", 443, UNKNOWN), "the name api cannot be resolved"),
        (Met("proxy", 3128, UNKNOWN), "the name proxy cannot be resolved, which SUPERVISOR_PROXY gives"),
        (Met("api", 443, TLS), "TLS with api failed: wrong version number"),
        (Met("proxy", 3128, TLS), "TLS with the proxy proxy failed: wrong version number"),
        (
            Untrusted("api", 443, "certificate is not yet valid"),
            "the TLS certificate of api is not valid now (certificate is not yet valid); "
            "is this machine's clock right?",
        ),
        (
            Untrusted("api", 443, "self-signed"),
            "the TLS certificate of api is not trusted (self-signed); a private CA goes into SUPERVISOR_CA_FILE",
        ),
        (
            Untrusted("proxy", 3128, ""),
            "the TLS certificate of the proxy proxy is not trusted (it does not match); "
            "a private CA goes into SUPERVISOR_CA_FILE",
        ),
        (TimeoutError(), "no answer from api within 2.5 s"),
        (ConnectionResetError(104, "reset by peer"), "api hung up (ConnectionResetError)"),
        (ValueError("https://api/?token=s3cret"), "api hung up (ValueError)"),
    ],
)
def test_trouble_is_one_line_that_names_who_was_met(error: Exception, reason: str) -> None:
    assert describe_error(error, "api", otherwise="hung up", proxy=PROXY, timeout_seconds=2.5) == reason


def test_without_a_known_bound_a_time_out_is_just_that() -> None:
    assert describe_error(TimeoutError(), "api", otherwise="hung up") == "no answer from api in time"


def test_a_proxy_url_without_a_port_is_at_the_schemes() -> None:
    reason = describe_error(Met("proxy", 80, REFUSED), "api", otherwise="hung up", proxy="http://proxy")
    assert reason.startswith("the proxy proxy cannot be reached")


def test_a_proxys_answer_says_what_to_mend() -> None:
    assert proxy_answered(502, "api") == "the proxy answered 502 when asked for api"
    assert "SUPERVISOR_PROXY" in proxy_answered(407, "api")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("١٢", None),
        ("0", 0),
        (" 12 ", 12),
        ("9" * 5000, 3600),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW + 90_000, usegmt=True), 3600),
        (formatdate(NOW - 90, usegmt=True), 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_held_against_the_clock_given(
    header: str | None, seconds: float | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("away", [0, 86_400, -86_400])
def test_a_date_is_held_against_the_clock_of_who_wrote_it(away: float) -> None:
    headers = {"Retry-After": formatdate(NOW + 90, usegmt=True), "Date": formatdate(NOW, usegmt=True)}
    assert retry_after(headers, NOW + away) == 90
    assert retry_after({**headers, "Date": "yesterday"}, NOW) == 90


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://user:s3cret@elsewhere.example/x?token=s3cret", "elsewhere.example"),
        ("/login", "another path"),
        ("http://[", "another address"),
        (None, "another path"),
    ],
)
def test_a_redirect_is_told_by_its_host_alone(location: str | None, words: str) -> None:
    assert redirect_host({} if location is None else {"Location": location}) == words


def test_what_the_other_side_says_is_one_short_line() -> None:
    assert one_line("a\x00b\r\n\tc  \u202ed " + "x" * 5000).startswith("ab c d xxx")
    assert len(one_line("x" * 5000)) == MAX_REASON_CHARS


def test_a_secret_is_taken_out_and_an_empty_one_is_none() -> None:
    assert mask_secret("bad s3cret!", "s3cret") == "bad …!"
    assert mask_secret("bad", "") == "bad"
