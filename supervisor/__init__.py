"""Runs a fleet of AIWM chat agents from one process.

Handler authors import :mod:`supervisor.handler` and nothing else. Everything else here is the supervisor itself,
layered as README's picture shows: edges, engine, adapters, core; imports go downward only.
"""

__version__ = "0.1.0"
