"""What the rules of alerts see now, in lines for people, and when each was told last."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.crew import Queue, crew
from celeryflows.console.figures import ALL, series
from celeryflows.console.flows import crons
from celeryflows.console.pages import moment
from celeryflows.console.telling import NotSent, send
from celeryflows.console.workers import workers
from celeryflows.durations import SECOND, format_duration, from_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.ids import derived_id
from celeryflows.settings.alerts import (
    BACKLOG,
    CRON,
    FAILED,
    FAILURES,
    OLDEST,
    RATE,
    SILENT,
    AlertRule,
)
from celeryflows.store.reports.alerting import Failed, failed_since

LONGEST = 200
NAMED = 5
# A failure may be committed a moment after it is dated: what is younger is left to the next look.
UNSEEN = 2 * SECOND


@dataclass(frozen=True, slots=True)
class Alarm:
    """A rule that is past its bound, and what it saw."""

    rule: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen up to a moment, in microseconds."""

    at: int
    alarms: tuple[Alarm, ...]


def look(runtime: Runtime, rules: Sequence[AlertRule]) -> Look:
    """The rules that are past their bound and were not told within their `every`."""
    with runtime.store.connection() as connection:
        now = connection.now()
    found = []
    for rule in rules:
        told = told_at(runtime, rule.name)
        if told is not None and now - told < rule.every:
            continue
        if lines := _sees(runtime, rule, told, now):
            found.append(Alarm(rule.name, lines))
    return Look(now - UNSEEN, tuple(found))


def _sees(runtime: Runtime, rule: AlertRule, told: int | None, now: int) -> tuple[str, ...]:
    """What a rule would tell now, were its time over: what came since it was told last; a rule that is new looks back
    by its own time."""
    since = now - rule.every if told is None else told
    return tuple(_SEEN[rule.when](runtime, rule, since, now))


def told_at(runtime: Runtime, rule: str) -> int | None:
    """When a rule was told last, in microseconds."""
    with runtime.store.connection() as connection:
        fact = connection.flows.fact(_key(rule))
    return None if fact is None else int(fact)


def remember(runtime: Runtime, rules: Sequence[str], at: int) -> None:
    """These rules were told what was seen up to this moment."""
    with runtime.store.connection() as connection:
        for rule in rules:
            connection.flows.put_fact(_key(rule), str(at))


@dataclass(frozen=True, slots=True)
class RuleStanding:
    """A rule, what it sees now though it may not be told yet, and when it was told last. `to` holds no secret."""

    name: str
    when: str
    to: tuple[str, ...]
    every: str
    told: datetime | None
    sees: tuple[str, ...]


def standings(runtime: Runtime, rules: Sequence[AlertRule]) -> list[RuleStanding]:
    """Every rule as it stands."""
    with runtime.store.connection() as connection:
        now = connection.now()
    told = {rule.name: told_at(runtime, rule.name) for rule in rules}
    return [
        RuleStanding(
            name=rule.name,
            when=rule.when,
            to=rule.places,
            every=format_duration(rule.every),
            told=moment(told[rule.name]),
            sees=_sees(runtime, rule, told[rule.name], now),
        )
        for rule in rules
    ]


def try_places(runtime: Runtime, rules: Sequence[AlertRule]) -> list[str]:
    """Send a message to every place of every rule, once; the words of those that did not take it."""
    refused = []
    for address in sorted({address for rule in rules for address in rule.to}):
        try:
            send(address, f"{runtime.app}: a test", ["This is how alerts of celeryflows look."])
        except NotSent as error:
            refused.append(str(error))
    return refused


def _key(rule: str) -> str:
    # A fact's key has 64 characters at most.
    return f"alert_{derived_id('alert', rule)}"


def _failed(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    found = failed_since(runtime.store, since, now - UNSEEN)
    own = [one for one in found.newest if rule.flow in (None, one.flow)]
    count = len(own) if rule.flow is not None else found.count
    least = rule.count if rule.when == FAILURES else 1
    if count >= least:
        yield f"{count:,} run{'s' if count > 1 else ''} failed in {format_duration(now - since)}"
        yield from _by_kind(own)


def _failures(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    return _failed(runtime, rule, now - rule.within, now)


def _by_kind(failed: Sequence[Failed]) -> Iterator[str]:
    kinds = Counter((one.flow, one.error) for one in failed)
    for (flow, error), count in kinds.most_common(NAMED):
        latest = next(one.run_id for one in failed if (one.flow, one.error) == (flow, error))
        yield f"{count} x {flow}: {error[:LONGEST]} (run {latest})"
    if len(kinds) > NAMED:
        yield f"and {len(kinds) - NAMED} more kinds"


def _rate(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    found = series(runtime, rule.flow or ALL, "1h")
    ended = found.total.completed + found.total.failed
    if found.failure_rate is not None and ended >= rule.at_least and found.failure_rate > rule.above:
        whose = f" of {rule.flow}" if rule.flow else ""
        yield f"{found.failure_rate:.0%} of {ended:,} runs{whose} of the last hour failed, over {rule.above:.0%}"


def _backlog(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    for queue in _queues(runtime):
        if queue.waiting > rule.above:
            yield f"{queue.waiting:,} runs wait in the queue {queue.name}, served by {queue.workers} workers"


def _oldest(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    for queue in _queues(runtime):
        waits = 0 if queue.oldest is None else now - from_datetime(queue.oldest)
        if waits > rule.longer:
            yield f"a run has waited for {format_duration(waits)} in the queue {queue.name}"


def _queues(runtime: Runtime) -> Sequence[Queue]:
    return crew(runtime).queues


def _silent(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    for worker in workers(runtime):
        if not worker.alive:
            ago = format_duration(now - from_datetime(worker.beat_at))
            yield f"the worker {worker.host} (process {worker.pid}) has been silent for {ago}"


def _cron(runtime: Runtime, rule: AlertRule, since: int, now: int) -> Iterator[str]:
    for cron in crons(runtime):
        late = 0 if cron.next_at is None else now - from_datetime(cron.next_at)
        if late > rule.by:
            yield f"the cron {cron.cron} of {cron.flow} has not fired for {format_duration(late)}"
        if cron.missed_due is None or cron.missed_seen is None or from_datetime(cron.missed_seen) <= since:
            continue
        late = from_datetime(cron.missed_seen) - from_datetime(cron.missed_due)
        if late > rule.by:
            whose, due = f"the cron {cron.cron} of {cron.flow}", f"{cron.missed_due:%Y-%m-%d %H:%M} UTC"
            yield f"no worker was there at {due} for {whose}: seen {format_duration(late)} late"


_SEEN = {
    FAILED: _failed,
    FAILURES: _failures,
    RATE: _rate,
    BACKLOG: _backlog,
    OLDEST: _oldest,
    SILENT: _silent,
    CRON: _cron,
}
