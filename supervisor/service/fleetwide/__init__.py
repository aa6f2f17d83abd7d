"""One fleet to its people, however many replicas run it: what is asked of any of them is answered for all.

What belongs to a replica's process is asked of it (:mod:`supervisor.peers`), what the registry knows is read there. A
replica that does not answer spoils no answer: its agents are shown by their rows, and said to be so. May import what
:mod:`supervisor.service` may, and of that room what this process does (:mod:`supervisor.service.control`).
"""

from supervisor.service.fleetwide.face import Fleetwide
from supervisor.service.fleetwide.serving import admin_app

__all__ = ["Fleetwide", "admin_app"]
