"""Reads the deployment's settings: from the environment, ``.env`` and secret files; nothing unknown is passed over."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from supervisor.core.errors import ConfigurationError
from supervisor.core.problems import error_of
from supervisor.settings.env_file import read_env_file
from supervisor.settings.models import RUN_SECRETS, Settings
from supervisor.settings.sources import PASSWORDS, PREFIX, is_service_link

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# What others put into the environment under our prefix: Kubernetes' service links, and supervisord.
_FOREIGN = re.compile(r"SUPERVISOR_(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_.+)\Z")
#: How alike an unknown name and a known one are for the one to be a slip for the other.
_NEAR_RATIO = 0.75
_NEVER_EMPTY = ("API_URL", "WS_URL", "REGISTRY_URL")
_SUPERVISORD = frozenset({"ENABLED", "PROCESS_NAME", "GROUP_NAME", "SERVER_URL"})


def _unknown_variables(variables: Mapping[str, str | None]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    ours = {name.upper(): value for name, value in variables.items() if name.upper().startswith(PREFIX)}
    return sorted(name for name, value in ours.items() if name not in known and not _is_foreign(name, value))


def _hint(unknown: str) -> str:
    """What may be meant by a name without the prefix; where nothing is near, where the names are."""
    known = [name.upper() for name in Settings.model_fields]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=_NEAR_RATIO)
    near = near or [name for name in known if name.startswith(f"{unknown}_")]
    return f"did you mean {PREFIX}{near[0]}?" if near else "supervisor config shows those that there are"


def _is_foreign(name: str, value: str | None) -> bool:
    return bool(_FOREIGN.match(name)) or name.removeprefix(PREFIX) in _SUPERVISORD or is_service_link(name, value)


def env_file_notes(secret_prefixes: Sequence[str] = (), env_file: Path = Path(".env")) -> tuple[str, ...]:
    """What the owner of a file of variables should know, a line each.

    Args:
        secret_prefixes: how the variables begin that hold agents' secrets (``SECRET_ENV_PREFIXES``).

    Raises:
        ConfigurationError: as :func:`load_settings`.
    """
    read = read_env_file(env_file, PASSWORDS)
    unused = [name for name in read.values if name.startswith(tuple(secret_prefixes)) and name not in os.environ]
    return read.notes + tuple(
        f"{env_file}: {name} is not used: of this file only {PREFIX}* counts; export it where the supervisor starts, "
        "or keep the secret in a file (--secret-file)"
        for name in unused
    )


def _secret_folders() -> list[Path]:
    """/run/secrets, and what systemd's LoadCredential= hands over, which counts first."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return [RUN_SECRETS, *([Path(credentials)] if credentials else [])]


def sources_of(settings: Settings, env_file: Path = Path(".env")) -> dict[str, str]:
    """Where each setting that is given comes from: ``environment``, the file of variables, or a file of its own.

    Raises:
        ConfigurationError: as :func:`load_settings`.
    """
    found: dict[str, str] = {}
    for folder in _secret_folders():
        if folder.is_dir():
            found |= {path.name.upper(): str(path) for path in folder.iterdir()}
    values = read_env_file(env_file, PASSWORDS).values
    found |= {name.upper(): str(env_file) for name, value in values.items() if value}
    found |= {name.upper(): "environment" for name, value in os.environ.items() if value}
    return {name: found.get(PREFIX + name.upper(), "given") for name in settings.model_fields_set}


def load_settings(env_file: Path | None = Path(".env"), *, run_secrets: Path | None = None, **given: Any) -> Settings:
    """Read the settings: ``given`` first, then the environment, ``env_file`` and files that are named as variables are.

    Args:
        run_secrets: the folder of these files; else /run/secrets and systemd's credentials.

    Raises:
        ConfigurationError: an unknown ``SUPERVISOR_*`` variable, which is named with a known one that is near, or a
            value that does not fit; the value itself is never repeated, it may be a secret.
    """
    in_file = {name: value for name, value in read_env_file(env_file, PASSWORDS).values.items() if value}
    unknown = _unknown_variables({**in_file, **os.environ})
    problems = [f"Unknown setting {name}; {_hint(name.removeprefix(PREFIX))}" for name in unknown]
    # Elsewhere an empty variable means "not set". Here that would be the production platform.
    empty = [PREFIX + name for name in _NEVER_EMPTY if os.environ.get(PREFIX + name) == ""]
    problems += [f"{name} is empty; give it a value, or unset it for the default" for name in empty]
    folders = [folder for folder in ([run_secrets] if run_secrets else _secret_folders()) if folder.is_dir()]
    try:
        settings = Settings(_env_file=env_file, _secrets_dir=folders or None, **given)
    except ValidationError as error:
        raise error_of([*problems, *(_problem(one) for one in error.errors(include_input=False))]) from None
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        # The library's own words are left out: they may repeat what the file holds.
        cause = error.__cause__ if isinstance(error, SettingsError) else error
        reason = cause.strerror if isinstance(cause, OSError) else "a file is not UTF-8 text"
        raise ConfigurationError(f"Cannot read the files of {' and '.join(map(str, folders))}: {reason}") from None
    if problems:
        raise error_of(problems)
    return settings


def _problem(found: ErrorDetails) -> str:
    name = f"{PREFIX}{str(found['loc'][0]).upper()}: " if found["loc"] else PREFIX
    return f"{name}{found['msg'].removeprefix('Value error, ')}"
