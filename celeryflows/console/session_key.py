"""The secret that signs the dashboard's sessions: made once, kept in the store, so that all its processes share it."""

from secrets import token_urlsafe

from celeryflows.engine.runtime import Runtime

FACT = "session_key"


def session_key(runtime: Runtime) -> str:
    """The store's secret for sessions; made at the first call. Raises StoreError."""
    with runtime.store.connection() as connection:
        return connection.flows.fact(FACT) or connection.flows.first_fact(FACT, token_urlsafe(48))
