"""References to secrets and how they are resolved, within what the deployment allows.

A registry row never holds a secret, only ``env:NAME``, ``file:/path`` or ``fernet:…``. Who can write rows must not be
able to read other variables or files through one: prefixes and folders bound what a reference reaches. No error,
``repr`` or exception chain here holds a secret.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import SecretStr

from supervisor.core.errors import ConfigurationError

#: A larger file is none that holds an agent's secret.
MAX_FILE_BYTES: Final = 64 * 1024
_ENV, _FILE, _SEALED = "env:", "file:", "fernet:"


def generate_key() -> str:
    """A new key for ``SUPERVISOR_SECRET_KEYS``."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    return Fernet.generate_key().decode("ascii")


class SecretBox:
    """Seals secrets under Fernet keys, and opens them.

    Args:
        keys: 32 bytes each as URL-safe base64; the first seals, all open, so that keys can be rotated.

    Raises:
        ConfigurationError: there is no key, or one is malformed; the text gives its position only.
    """

    @classmethod
    def of(cls, keys: Sequence[SecretStr]) -> Self | None:
        """The box of a deployment's ``SECRET_KEYS``; None where it has none.

        Raises:
            ConfigurationError: one is malformed.
        """
        return cls([key.get_secret_value() for key in keys]) if keys else None

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigurationError("SUPERVISOR_SECRET_KEYS is empty; make a key with: supervisor keys generate")
        # Imported where there are keys: it takes 6 MiB, and a tenth of what a short command takes.
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415

        fernets = []
        for position, key in enumerate(keys, start=1):
            try:
                fernets.append(Fernet(key.strip()))
            except (ValueError, TypeError):
                raise ConfigurationError(
                    f"SUPERVISOR_SECRET_KEYS: key {position} is not a Fernet key (32 bytes as URL-safe base64); "
                    "make one with: supervisor keys generate"
                ) from None
        self._first = fernets[0]
        self._fernet = MultiFernet(fernets)
        self._number = len(fernets)
        #: A mark of each key, which tells whether two programs have the same one, without a word of it.
        self.key_ids = tuple(hashlib.sha256(b"first key\0" + key.strip().encode()).hexdigest()[:16] for key in keys)
        #: That of the one under which it encrypts.
        self.first_key_id = self.key_ids[0]

    def __repr__(self) -> str:
        return f"SecretBox({self._number} keys)"

    def seal(self, plain: str) -> str:
        """A reference that holds ``plain``, encrypted under the first key.

        Raises:
            ConfigurationError: the secret is empty or no text.
        """
        if not plain:
            raise ConfigurationError("The secret is empty; nothing was sealed")
        try:
            raw = plain.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigurationError("The secret holds characters that UTF-8 cannot express") from None
        return _SEALED + self._fernet.encrypt(raw).decode("ascii")

    def open(self, reference: str) -> str:
        """What a reference made by :meth:`seal` holds.

        Raises:
            ConfigurationError: none of the keys opens it.
        """
        return self._decrypt(reference)

    def renew(self, sealed: bytes) -> bytes | None:
        """What :meth:`encrypt` or :meth:`seal` made, under the first key; None when it is under that one already.

        Args:
            sealed: without the mark that it is stored behind.

        Raises:
            ConfigurationError: none of the keys opens it.
        """
        if _unless_invalid(self._first.decrypt, sealed) is not None:
            return None
        renewed = _unless_invalid(self._fernet.rotate, sealed)
        if renewed is None:
            raise ConfigurationError("None of SUPERVISOR_SECRET_KEYS opens it; add the key that encrypted it") from None
        return renewed

    def encrypt(self, plain: bytes) -> bytes:
        """``plain`` under the first key, as ASCII: for what is more than a secret, such as journaled text."""
        return self._fernet.encrypt(plain)

    def decrypt(self, sealed: bytes) -> bytes:
        """What :meth:`encrypt` was given.

        Raises:
            ConfigurationError: none of the keys opens it.
        """
        plain = _unless_invalid(self._fernet.decrypt, sealed)
        if plain is None:
            raise ConfigurationError(
                "The text cannot be opened by any of SUPERVISOR_SECRET_KEYS; add the key that encrypted it"
            ) from None
        return plain

    def _decrypt(self, reference: str) -> str:
        try:
            plain = _unless_invalid(self._fernet.decrypt, reference.removeprefix(_SEALED).encode("utf-8"))
            if plain is not None:
                return plain.decode("utf-8")
        except ValueError:
            pass
        raise ConfigurationError(
            "The sealed secret cannot be opened by any of SUPERVISOR_SECRET_KEYS; add the key that sealed it, "
            "or store the secret anew: supervisor agents update ID --secret-stdin"
        ) from None


def _unless_invalid(work: Callable[[bytes], bytes], sealed: bytes) -> bytes | None:
    """What ``work`` makes of a ciphertext; None where no key is the right one."""
    from cryptography.fernet import InvalidToken  # noqa: PLC0415

    try:
        return work(sealed)
    except InvalidToken:
        return None


class SecretResolver:
    """Turns the reference in an agent's row into its secret.

    Args:
        environ: the variables that ``env:`` may name.
        env_prefixes: with what their names must begin (``SECRET_ENV_PREFIXES``, by default ``AGENT_``).
        dirs: the folders in which ``file:`` may read (``SECRET_DIRS``), symbolic links resolved.
        box: opens ``fernet:``; None when there are no keys.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        env_prefixes: Sequence[str],
        dirs: Sequence[Path],
        box: SecretBox | None,
    ) -> None:
        self._environ = environ
        self._prefixes = tuple(env_prefixes)
        self._dirs = tuple(dirs)
        self._box = box

    def __repr__(self) -> str:
        return f"SecretResolver(env_prefixes={self._prefixes!r}, dirs={[str(d) for d in self._dirs]!r})"

    def resolve(self, reference: str) -> str:
        """The secret that ``reference`` stands for.

        Raises:
            ConfigurationError: it is no reference, outside what is allowed, unset, unreadable, empty or too large.
        """
        if reference.startswith(_ENV):
            return self._from_environment(reference.removeprefix(_ENV))
        if reference.startswith(_FILE):
            return self._from_file(Path(reference.removeprefix(_FILE)))
        if reference.startswith(_SEALED):
            if self._box is None:
                raise ConfigurationError("The secret is sealed and SUPERVISOR_SECRET_KEYS is not set; set it")
            return self._box.open(reference)
        # The reference is not repeated: it may be the secret itself.
        raise ConfigurationError("The secret is not a reference; use env:NAME, file:/path or --secret-stdin")

    def same(self, one: object, other: object) -> bool:
        """Whether two values of rows say the same, though secrets in them be sealed anew (``supervisor keys rotate``).

        Args:
            one, other: references, or settings with references anywhere in them.
        """
        try:
            return self._same(one, other)
        except RecursionError:
            return False

    def _same(self, one: object, other: object) -> bool:
        if one == other:
            return True
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self._same(value, other[name]) for name, value in one.items())
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self._same, one, other))
        sealed = [value for value in (one, other) if isinstance(value, str) and value.startswith(_SEALED)]
        if self._box is None or len(sealed) < 2:
            return False
        try:
            return self._box.open(sealed[0]) == self._box.open(sealed[1])
        except ConfigurationError:
            return False

    def _from_environment(self, name: str) -> str:
        if not name.startswith(self._prefixes):
            allowed = ", ".join(self._prefixes) or "none"
            raise ConfigurationError(
                f"The secret's variable {name} is outside SUPERVISOR_SECRET_ENV_PREFIXES ({allowed}); rename it"
            )
        secret = self._environ.get(name)
        if secret is None:
            raise ConfigurationError(f"The secret's variable {name} is not set in the supervisor's environment")
        if not secret.strip():
            raise ConfigurationError(f"The secret's variable {name} is empty")
        return secret

    def _from_file(self, path: Path) -> str:
        secret = _read_text(path, self._inside(path))
        # Editors and echo end a file with a newline that is no part of the secret.
        secret = secret.removesuffix("\n").removesuffix("\r")
        if not secret.strip():
            raise ConfigurationError(f"The secret's file {path} is empty")
        return secret

    def _inside(self, path: Path) -> Path:
        """The real place of ``path``, if that is in one of the folders."""
        if not path.is_absolute():
            raise ConfigurationError(f"The secret's file {path} is not an absolute path; write file:/path")
        try:
            real = path.resolve()
            folders = [folder.resolve() for folder in self._dirs]
        except (OSError, RuntimeError, ValueError):
            raise ConfigurationError(f"The secret's file {path} cannot be found") from None
        if not any(real.is_relative_to(folder) for folder in folders):
            allowed = ", ".join(str(folder) for folder in self._dirs) or "none"
            raise ConfigurationError(f"The secret's file {path} is outside SUPERVISOR_SECRET_DIRS ({allowed})")
        return real


def _read_text(named: Path, real: Path) -> str:
    try:
        # Opening must not wait: a pipe that nobody writes would block for ever.
        file = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ConfigurationError(f"The secret's file {named} is not a regular file")
            with open(file, "rb", closefd=False) as opened:
                raw = opened.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(f"The secret's file {named} cannot be read: {reason}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"The secret's file {named} is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"The secret's file {named} is not text in UTF-8") from None
