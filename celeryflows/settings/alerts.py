"""Rules of alerts as `flows_alerts` declares them: what is watched, past which bound, and who is told how often."""

from dataclasses import dataclass, field
from typing import Any

from celeryflows.durations import HOUR, MINUTE
from celeryflows.errors import ConfigurationError
from celeryflows.settings.reading import duration_of, one_of, table_of, text_of, texts_of

FAILED, FAILURES, RATE = "failed", "failures", "failure rate"
BACKLOG, OLDEST, SILENT, CRON = "backlog", "oldest waiting", "worker silent", "cron missed"
# What each kind takes beside `to`, `every` and `flow`, with its default.
KINDS: dict[str, dict[str, Any]] = {
    FAILED: {},
    FAILURES: {"count": 10, "within": "10 minutes"},
    RATE: {"above": 0.1, "at_least": 20},
    BACKLOG: {"above": 1000},
    OLDEST: {"longer": "5 minutes"},
    SILENT: {},
    CRON: {"by": "5 minutes"},
}
OF_FLOWS = (FAILED, FAILURES, RATE)
DURATIONS = ("within", "longer", "by")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule. `to`: addresses as Apprise takes them, which hold secrets. `every`: at most one message in that time;
    what happens meanwhile is in the next. `flow`: only of this one, None for all. Durations in microseconds."""

    name: str
    when: str
    to: tuple[str, ...] = field(repr=False)
    every: int = 15 * MINUTE
    flow: str | None = None
    count: int = 0
    above: float = 0.0
    at_least: int = 0
    within: int = HOUR
    longer: int = 0
    by: int = 0

    @property
    def places(self) -> tuple[str, ...]:
        """Where its messages go, without what is secret."""
        return tuple(sorted({f"{address.partition('://')[0]}://…" for address in self.to}))


def read_alerts(value: Any) -> tuple[AlertRule, ...]:
    """`flows_alerts`. Raises ConfigurationError, which names the entry and no address."""
    return tuple(_rule(name, entry) for name, entry in table_of(value, "flows_alerts").items())


def _rule(name: str, entry: Any) -> AlertRule:
    where = f"flows_alerts[{name!r}]"
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise ConfigurationError(f"{where}: a rule's name is a printable text of 1 to 100 characters")
    when = one_of(table_of(entry, where).get("when"), f"{where}['when']", KINDS)
    own = KINDS[when]
    known = ("when", "to", "every", *own, *(("flow",) if when in OF_FLOWS else ()))
    given = table_of(entry, where, known)
    to = texts_of(given.get("to", ()), f"{where}['to']", remedy="Is its environment variable set?")
    if not to or not all("://" in address for address in to):
        raise ConfigurationError(f"{where}['to'] must be addresses as Apprise takes them, such as 'mailto://...'")
    options = {one: _option(f"{where}[{one!r}]", one, given.get(one, usual)) for one, usual in own.items()}
    flow = text_of(given["flow"], f"{where}['flow']") if "flow" in given else None
    every = duration_of(given.get("every", "15 minutes"), f"{where}['every']")
    return AlertRule(name, when, to, every, flow, **options)


def _option(where: str, name: str, value: Any) -> Any:
    if name in DURATIONS:
        return duration_of(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigurationError(f"{where} must be a number above 0")
    if name != "above" and not isinstance(value, int):
        raise ConfigurationError(f"{where} must be a whole number")
    return value
