"""Questions between the replicas of one registry: signed, bounded, and asked of those alone that prove who they are.

May import telemetry and what is below. What is asked, and what is made of the answers, belongs to
:mod:`supervisor.service.fleetwide`.
"""

from supervisor.peers.client import NotThereError, Peers, PeerSilentError
from supervisor.peers.gate import BEAT_SECONDS, Answer, Gate
from supervisor.peers.signing import Doorkeeper, Key

__all__ = ["BEAT_SECONDS", "Answer", "Doorkeeper", "Gate", "Key", "NotThereError", "PeerSilentError", "Peers"]
