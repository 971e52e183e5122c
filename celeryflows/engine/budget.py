"""How much a run may store: each value and all of them together, in bytes of their JSON."""

from collections.abc import Callable, Iterable

from celeryflows.engine.settings import Settings
from celeryflows.errors import BoundExceeded

REMEDY = "Store large data elsewhere and return its key, or raise "


class ValueBudget:
    """Counts the bytes of a run's values, from those that are stored already."""

    def __init__(self, settings: Settings, stored: Iterable[str | None]) -> None:
        self._settings = settings
        self._bytes = sum(size_of(text) for text in stored if text)

    def check(self, key: str, text: str) -> None:
        """Raise BoundExceeded when the step's value does not fit."""
        settings, size = self._settings, size_of(text)
        if size > settings.max_value_bytes:
            raise BoundExceeded(
                f"step {key!r}: value bytes", settings.max_value_bytes, size, REMEDY + "flows_max_value_bytes."
            )
        if self._bytes + size > settings.max_run_bytes:
            raise _run_is_full(settings.max_run_bytes, self._bytes + size)

    def add(self, text: str) -> None:
        """The value is stored."""
        self._bytes += size_of(text)

    def spend(self, size: int) -> None:
        """So many bytes more are stored elsewhere in the run."""
        self._bytes += size

    def check_all(self) -> None:
        """Raise BoundExceeded when the run stores too much already."""
        most = self._settings.max_run_bytes
        if self._bytes > most:
            raise _run_is_full(most, self._bytes)


def past_bound(settings: Settings, text: str, others: Callable[[], int], remedy: str) -> BoundExceeded | None:
    """A value that came from elsewhere and does not fit into its run, whose other values have `others` bytes together.
    Small ones, as many as there may be steps, always fit."""
    most, size = settings.max_run_bytes, size_of(text)
    if size <= most // settings.max_steps or (whole := others() + size) <= most:
        return None
    return BoundExceeded("a run's values in bytes", most, whole, f"{remedy} or raise flows_max_run_bytes.")


def _run_is_full(most: int, size: int) -> BoundExceeded:
    return BoundExceeded("a run's values in bytes", most, size, REMEDY + "flows_max_run_bytes.")


def size_of(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
