"""What a person gives for an agent on the command line: values, and secrets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supervisor.cli.errors import UsageError, warn
from supervisor.core.errors import ConfigurationError
from supervisor.settings import Settings

if TYPE_CHECKING:
    from supervisor.management.agents import Checker


def key_values(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping; the last of a key wins.

    Raises:
        UsageError: one is not of that form.
    """
    made = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} wants KEY=VALUE, not {pair!r}")
        made[key.strip()] = value
    return made


def setting_values(pairs: Sequence[str]) -> dict[str, Any]:
    """``--set KEY=VALUE``: the value is JSON where it parses as such, else text.

    Raises:
        UsageError: one is nested deeper than can be read.
    """
    return {key: _json_or_text(key, value) for key, value in key_values(pairs, "--set").items()}


def _json_or_text(key: str, value: str) -> Any:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return value
    except RecursionError:
        raise UsageError(f"--set {key}: its value is nested too deep to be read") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def print_warnings(checker: Checker) -> None:
    """Say, once each, what may be wrong: called when all is well enough to go on."""
    for text in checker.take_warnings():
        warn(text)


def read_secret() -> str:
    """The secret from standard input, without the newline at its end; a person is asked for it unseen.

    Raises:
        ConfigurationError: there is none.
    """
    import getpass  # noqa: PLC0415

    try:
        text = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read()
    except (UnicodeDecodeError, EOFError):
        text = ""
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise ConfigurationError("Standard input held no secret; try: supervisor agents … --secret-stdin < file")
    return secret


def seal(secret: str, settings: Settings) -> str:
    """``secret`` as a ciphertext that may be stored.

    Raises:
        ConfigurationError: there is no key to seal with; says how to make one.
    """
    from supervisor.settings.secrets import SecretBox  # noqa: PLC0415

    return SecretBox([key.get_secret_value() for key in settings.secret_keys]).seal(secret)
