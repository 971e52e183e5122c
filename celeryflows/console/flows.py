"""Flows and their cron triggers on the desk: what the store knows beside what this process declares."""

from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.pages import moment
from celeryflows.durations import format_duration, to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import RESERVED
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnCron
from celeryflows.store.reports.flows import CronView, FlowView, list_crons, list_flows


@dataclass(frozen=True, slots=True)
class CronSummary:
    """A cron trigger and its next time; `registered` is False until a worker or sender has written it to the store.

    `missed_due` is the last time at which no worker was there, and `missed_seen` when one was again."""

    flow: str
    cron: str
    tz: str
    jitter: str | None
    missed: str
    next_at: datetime | None
    registered: bool
    missed_due: datetime | None = None
    missed_seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """A flow. `declared`: by this process; `registered`: in the store, where events find it; `paused_at`: since when
    nothing starts it."""

    name: str
    label: str
    version: str | None
    retries: int
    events: tuple[str, ...]
    crons: tuple[CronSummary, ...]
    failure_of: str | None
    declared: bool
    registered: bool
    paused_at: datetime | None


def flows(runtime: Runtime) -> list[FlowSummary]:
    """Every flow that is declared here or known to the store, by name; removed ones are left out."""
    kept = {flow.definition.name: flow for flow in list_flows(runtime.store) if flow.removed_at is None}
    stored = {name: flow.definition for name, flow in kept.items()}
    declared = {name: flow.definition for name, flow in runtime.flows.items()}
    due = {(cron.flow, cron.trigger_no): cron for cron in list_crons(runtime.store)}
    now = runtime.clock.now()
    return [
        _summary(definition, due, now, declared=name in declared, kept=kept.get(name))
        for name, definition in sorted({**declared, **stored}.items())
    ]


def flow_names(runtime: Runtime) -> list[str]:
    """The names of every flow that is declared here or known to the store."""
    kept = {flow.definition.name for flow in list_flows(runtime.store) if flow.removed_at is None}
    return sorted(kept | runtime.flows.keys())


def trigger_names(runtime: Runtime) -> list[str]:
    """The names of events that start a flow, patterns left out."""
    declared = {name: flow.definition for name, flow in runtime.flows.items()}
    stored = {flow.definition.name: flow.definition for flow in list_flows(runtime.store) if flow.removed_at is None}
    names = {on.name for flow in {**declared, **stored}.values() for on in flow.events}
    return sorted(name for name in names if not name.endswith("*") and not name.startswith(RESERVED))


def crons(runtime: Runtime) -> list[CronSummary]:
    """Every cron trigger, the next to fire first."""
    found = [cron for flow in flows(runtime) for cron in flow.crons]
    return sorted(found, key=lambda cron: (cron.next_at is None, cron.next_at, cron.flow))


def _summary(
    flow: FlowDefinition, due: dict[tuple[str, int], CronView], now: int, *, declared: bool, kept: FlowView | None
) -> FlowSummary:
    crons = tuple(_cron(flow.name, cron, due, (flow.name, number), now) for number, cron in flow.crons)
    return FlowSummary(
        name=flow.name,
        label=flow.label,
        version=flow.version,
        retries=flow.retries,
        events=tuple(f"{on.name} if {on.if_exp}" if on.if_exp else on.name for on in flow.events),
        crons=crons,
        failure_of=flow.failure_of,
        declared=declared,
        registered=kept is not None,
        paused_at=None if kept is None else moment(kept.paused_at),
    )


def _cron(flow: str, cron: OnCron, due: dict[tuple[str, int], CronView], key: tuple[str, int], now: int) -> CronSummary:
    kept = due.get(key)
    jitter = None if cron.jitter is None else format_duration(cron.jitter_us())
    return CronSummary(
        flow=flow,
        cron=cron.cron,
        tz=cron.tz,
        jitter=jitter,
        missed=cron.missed,
        next_at=to_datetime(cron.schedule().next_after(now)) if kept is None else moment(kept.next_at),
        registered=kept is not None,
        missed_due=None if kept is None else moment(kept.missed_due),
        missed_seen=None if kept is None else moment(kept.missed_seen),
    )
