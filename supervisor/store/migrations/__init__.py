"""The registry's schema, step by step (Alembic); run by :mod:`supervisor.store.sqlite.migrate`."""
