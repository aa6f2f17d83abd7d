"""Runs a fleet of AIWM chat agents from one process.

Authors of handlers import :mod:`supervisor.handler`, for their tests :mod:`supervisor.testing`, and nothing else. The
rest is the supervisor itself. Each word below is a package or a module of this one. Imports go downward: from the left
to the right of a line, and from each line to those below it::

    edges     cli | testing | health > service > admin | doctor | sandbox > management
    engine    fleet > messages
    adapters  platform | store | handlers | peers > telemetry > settings | net
    core      handler > core > protocol

What each is for, and where something new would go: docs/architecture.md#rooms, docs/architecture.md#seams. A handler
belongs to none of them, but to the folder ``agents`` or to a package of its own.
"""

__version__ = "0.2.0"
