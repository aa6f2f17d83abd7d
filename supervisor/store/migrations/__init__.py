"""The registry's schema, step by step (Alembic); run by :mod:`supervisor.store.sql.migrate`."""
