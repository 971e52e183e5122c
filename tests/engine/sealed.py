"""Worlds whose payloads are encrypted, and what stands in their stores."""

from base64 import urlsafe_b64encode

from celeryflows.store.keyring import Keyring
from celeryflows.store.schema import metadata
from tests.engine.world import World

OLD, NEW = (urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2))
SECRET = "4111-1111-1111-1111"


def use(world: World, *keys: str) -> None:
    """From now on this world has these keys."""
    world.store.sealer = Keyring(keys) if keys else None
    world.store.agree_on_keys()


def raw(world: World) -> str:
    """All that stands in the store, as anybody reads it who has no key."""
    with world.store.engine.connect() as connection:
        rows = [row for table in metadata.tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    return "\n".join(str(row) for row in rows)
