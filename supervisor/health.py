"""Asks a health endpoint, with the standard library alone: a container engine runs this every few seconds.

``python -m supervisor.health URL…`` exits 0 when it answers with a success, else 1 with the reason on standard error;
of several the first counts that answers at all. It costs a tenth of the ``supervisor health`` command, which finds the
URL in the settings.
"""

import http.client
import sys
from urllib.parse import urlsplit

ANSWER_SECONDS = 4.0
_ANSWER_BYTES = 2000


class NoAnswerError(Exception):
    """Nobody answers at an address; one line says which and why."""


def trouble(*urls: str, timeout_seconds: float = ANSWER_SECONDS) -> str:
    """What is wrong with the service at the first of ``urls`` that answers, in one line; empty when it is well."""
    silent = []
    for url in urls:
        try:
            return _answered(url, timeout_seconds)
        except NoAnswerError as error:
            silent.append(str(error))
    return "; ".join(silent)


def _answered(url: str, timeout_seconds: float) -> str:
    """What is wrong with what ``url`` answers; no proxy is asked. Raises NoAnswerError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url} is no URL: {error}"
    if parts.scheme != "http" or not parts.hostname:
        return f"{url} is not an address that begins with http://"
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_seconds)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        said = answer.read(_ANSWER_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(f"{url} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
        return ""
    return " ".join(f"{url} answered {answer.status}: {said}".split())


def main() -> None:
    """Ask the URLs that the arguments are."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m supervisor.health URL…")
    if found := trouble(*sys.argv[1:]):
        sys.exit(found)


if __name__ == "__main__":
    main()
