"""A platform's hosts, as the whole fleet meets them: requests, rates that spare them, outages, what is known of them.

May import telemetry, net and the core. What one agent does at a host belongs to the rooms above:
:mod:`supervisor.platform.tokens`, :mod:`supervisor.platform.history`, :mod:`supervisor.platform.connector`.
"""

__all__ = ["api", "checks", "deliveries", "engine_paths", "facts", "gates", "outages", "pool", "probes"]
