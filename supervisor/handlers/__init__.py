"""Finds handlers, loads them, and gives all their forms one shape.

May import telemetry and what is below. What authors are promised belongs to :mod:`supervisor.handler`, what their
``ctx`` does to :mod:`supervisor.messages`, and the bundled handlers themselves to the folder ``agents``.
"""

from supervisor.handlers.folder import Folders, find_agents_dir
from supervisor.handlers.loader import PACKAGE, HandlerLoader
from supervisor.handlers.mounted import MountedHandler
from supervisor.handlers.parts import to_outbound
from supervisor.handlers.threads import DaemonThreads, ThreadShare, TimeLimit

__all__ = [
    "PACKAGE",
    "DaemonThreads",
    "Folders",
    "HandlerLoader",
    "MountedHandler",
    "ThreadShare",
    "TimeLimit",
    "find_agents_dir",
    "to_outbound",
]
