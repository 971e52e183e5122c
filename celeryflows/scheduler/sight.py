"""How long a leader has seen the store without a gap: only after that does it declare anybody dead.

After an outage, or when all hosts were held up as one, every heartbeat is old: who lives beats first."""

from dataclasses import dataclass


@dataclass(slots=True)
class Sight:
    """Seconds of a monotonic clock. A look that comes or lasts longer than `gap` after the one before is no sight."""

    needed: float
    gap: float
    since: float | None = None
    _looked: float | None = None

    def look(self, now: float) -> None:
        """A look begins."""
        if self._looked is not None and now - self._looked > self.gap:
            self.since = None
        self._looked = now

    def seen(self) -> None:
        """The look has come through."""
        if self.since is None:
            self.since = self._looked

    def lose(self) -> bool:
        """The store did not answer; True when it did before."""
        before, self.since = self.since, None
        return before is not None

    def is_long(self, now: float) -> bool:
        """At this moment of the look."""
        assert self._looked is not None
        return self.since is not None and self._looked - self.since >= self.needed and now - self._looked <= self.gap
