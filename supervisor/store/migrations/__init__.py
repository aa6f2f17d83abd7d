"""The registry's schema, step by step (Alembic); run by ``supervisor.store.migrate``."""
