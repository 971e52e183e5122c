"""One flow as a page shows it: what it is declared as, in words, and how it stands."""

from collections.abc import Iterator
from dataclasses import dataclass

from celeryflows.console.flows import FlowSummary, flows
from celeryflows.console.limits import LimitSummary, limits
from celeryflows.durations import format_duration
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownFlow
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Limits
from celeryflows.store.reports.flows import list_flows


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a flow: its name, what it says in words, the expression of its key."""

    name: str
    words: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class FlowPage:
    """A flow with its options and the limits that somebody holds or waits for."""

    flow: FlowSummary
    options: tuple[Option, ...]
    limits: tuple[LimitSummary, ...]


def flow_page(runtime: Runtime, name: str) -> FlowPage:
    """One flow. Raises UnknownFlow."""
    found = next((flow for flow in flows(runtime) if flow.name == name), None)
    if found is None:
        raise UnknownFlow(f"No flow {name!r}.")
    return FlowPage(found, tuple(options_of(definition(runtime, name))), tuple(limits(runtime, flow=name)))


def definition(runtime: Runtime, name: str) -> FlowDefinition:
    """A flow's definition: the store's, which events find, else this process's."""
    stored = {flow.definition.name: flow.definition for flow in list_flows(runtime.store)}
    return stored[name] if name in stored else runtime.flows[name].definition


def all_options(runtime: Runtime) -> dict[str, tuple[Option, ...]]:
    """The options of every flow, by its name."""
    found = {name: flow.definition for name, flow in runtime.flows.items()}
    found |= {flow.definition.name: flow.definition for flow in list_flows(runtime.store)}
    return {name: tuple(options_of(one)) for name, one in found.items()}


def options_of(flow: FlowDefinition) -> Iterator[Option]:
    """What a flow is declared with, beside its triggers."""
    yield from _limits(flow.limits)
    if flow.timeouts is not None:
        for word, us in (("start", flow.timeouts.start_us), ("finish", flow.timeouts.finish_us)):
            if us is not None:
                yield Option("timeout", f"{word} within {format_duration(us)}")
    for one in flow.cancel_on:
        yield Option("cancel_on", one.event, one.match or one.if_exp)
    if flow.send.get("queue"):
        yield Option("queue", str(flow.send["queue"]))


def _limits(of: Limits) -> Iterator[Option]:
    for one in of.concurrency:
        yield Option("concurrency", f"{one.limit:,} at once{' in the app' if one.scope == 'app' else ''}", one.key)
    for name, rate in (("throttle", of.throttle), ("rate_limit", of.rate_limit)):
        if rate is not None:
            yield Option(name, f"{rate.limit:,} each {format_duration(rate.json()['period'])}", rate.key)
    if of.debounce is not None:
        yield Option("debounce", format_duration(of.debounce.period_us), of.debounce.key)
    if of.batch is not None:
        words = f"{of.batch.max_size:,} events or {format_duration(of.batch.timeout_us)}"
        yield Option("batch", words, of.batch.key)
    if of.singleton is not None:
        yield Option("singleton", of.singleton.mode, of.singleton.key)
    if of.priority is not None:
        yield Option("priority", "by expression", of.priority.expression)
    if of.idempotency is not None:
        yield Option("idempotency", "once a day", of.idempotency)
