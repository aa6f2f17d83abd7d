"""The registry: the table of agents, and the journal of messages and replies, in one database.

The store answers when everything asked of it is committed, and words every failure as a
:class:`~supervisor.core.errors.RegistryError`. It may import telemetry, settings, net and the core. Who runs, what a
message goes through and when a reply is sent belong to ``fleet`` and ``messages``; what people may ask for to
``management``.

Inside, :mod:`~supervisor.store.dialect.face` is the seam: above it nothing knows a database (``registry``, ``journal``,
``reading``, ``dead_letters``, ``maintenance``, ``committer``, ``usage``, ``lives``), below it are the
statements (``sql``, ``migrations``) and what is one database's own (``sqlite``, ``postgres``).
"""

from supervisor.store.dialect import LockInfo, Rotation
from supervisor.store.dialect.face import Access
from supervisor.store.journal import Journal
from supervisor.store.opening import backup, check, lock_holder, rotate, upgrade
from supervisor.store.registry import Registry

__all__ = [
    "Access",
    "Journal",
    "LockInfo",
    "Registry",
    "Rotation",
    "backup",
    "check",
    "lock_holder",
    "rotate",
    "upgrade",
]
