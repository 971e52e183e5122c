"""The web framework that an app lives in: it knows databases by name, and keeps the transactions of its callers.

Its room stands above this one and tells itself here, once a process."""

from collections.abc import Sequence
from typing import Protocol

from celeryflows.engine.callers import Callers


class Surroundings(Protocol):
    """What is asked of it. A database's name is the `<alias>` of `flows_store_url = "django:<alias>"`."""

    def store_url(self, alias: str) -> str:
        """The URL of the database. Raises ConfigurationError for one that cannot be the store."""
        ...

    def callers(self, alias: str | None) -> Callers:
        """Who keeps the transactions; None: the store is elsewhere."""
        ...

    def callers_beside(self, alias: str | None) -> Callers:
        """The same for an engine on a store of its own, as test kit and eager mode have: what is sent goes at once."""
        ...

    def warnings(self, alias: str | None) -> Sequence[tuple[str, str]]:
        """What the doctor says of transactions here: what is weaker than it could be, and the remedy."""
        ...


_entered: list[Surroundings] = []


def enter(surroundings: Surroundings) -> None:
    """This process lives in them."""
    _entered[:] = [surroundings]


def surroundings() -> Surroundings | None:
    """Those of this process, None without any."""
    return _entered[0] if _entered else None
