"""Whom we trust on the way to others."""

from __future__ import annotations

import ssl
from pathlib import Path

from supervisor.core.errors import ConfigurationError


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A client's context: the system's authorities, and those of CA_FILE.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"SUPERVISOR_CA_FILE {ca_file} cannot be used: {error.strerror or 'it holds no PEM certificate'}"
            ) from None
    return context
