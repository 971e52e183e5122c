"""Which flows an event starts and which waits it answers. Pure: no I/O, no time, no dice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from celeryflows.expressions import Expression, compile_expression, condition
from celeryflows.model.cancels import CancelOn
from celeryflows.model.events import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import EVENT_NAMES, OnEvent
from celeryflows.model.waits import WAIT_NAMES, OpenWait, match_hash, match_value

LIFECYCLE = frozenset({RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED})


@dataclass(frozen=True, slots=True)
class Starts:
    """The flows that an event starts, and why conditions could not be judged."""

    flows: tuple[FlowDefinition, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    flow: FlowDefinition
    trigger: OnEvent
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class TriggerIndex:
    """Triggers by event name; patterns apart."""

    exact: dict[str, list[_Entry]] = field(default_factory=dict)
    patterns: list[_Entry] = field(default_factory=list)

    @classmethod
    def of(cls, flows: Iterable[FlowDefinition]) -> "TriggerIndex":
        """The index of these flows."""
        index = cls()
        for flow in flows:
            for trigger in flow.events:
                compiled = (
                    compile_expression(trigger.if_exp, names=EVENT_NAMES, what=f"if_exp of flow {flow.name!r}")
                    if trigger.if_exp is not None
                    else None
                )
                entry = _Entry(flow, trigger, compiled)
                if trigger.is_pattern:
                    index.patterns.append(entry)
                else:
                    index.exact.setdefault(trigger.name, []).append(entry)
        return index

    def listens(self, name: str) -> bool:
        """True when some trigger asks for events of the name."""
        return name in self.exact or any(e.trigger.matches(name) for e in self.patterns)

    def entries(self, name: str) -> list[_Entry]:
        """The triggers that ask for events of the name."""
        exact = self.exact.get(name, [])
        return exact + [e for e in self.patterns if e.trigger.matches(name)] if self.patterns else exact

    def cancels(self, name: str) -> list[CancelOn]:
        """What cancels the flows that events of the name may start."""
        return [one for entry in self.entries(name) for one in entry.flow.cancel_on]

    def starts(self, event: StoredEvent) -> Starts:
        """The flows to start; one with two matching triggers starts once."""
        entries = self.entries(event.name)
        flows: dict[str, FlowDefinition] = {}
        problems: list[str] = []
        for entry in entries:
            if entry.flow.name in flows or not _concerns(entry.flow, event):
                continue
            truth, problem = _judge(entry.condition, {"event": event})
            if problem:
                problems.append(f"flow {entry.flow.name}: {problem}")
            if truth:
                flows[entry.flow.name] = entry.flow
        return Starts(tuple(flows.values()), tuple(problems))


def _concerns(flow: FlowDefinition, event: StoredEvent) -> bool:
    """A failure handler is started by its own flow's failure alone; no flow by what followed from its own end."""
    if flow.failure_of is not None:
        return event.data.get("flow") == flow.failure_of
    return flow.name not in _ended_before(event)


def _ended_before(event: StoredEvent) -> Iterator[str]:
    """The flows on whose ends this event of ours follows, or two watchers would start each other for ever."""
    name, data = event.name, event.data
    while name in LIFECYCLE:
        yield data["flow"]
        name, data = data["event"]["name"], data["event"]["data"]


def _judge(expression: Expression | None, events: dict[str, StoredEvent]) -> tuple[bool, str | None]:
    if expression is None:
        return True, None
    scope: dict[str, Any] = {name: event.scope() for name, event in events.items()}
    return condition(expression, scope)


def wait_hashes(event: StoredEvent, paths: Iterable[str]) -> list[int]:
    """The hashes under which waits on this event may stand, one for each path it has a value at."""
    found = [(path, match_value(event.data, path)) for path in paths]
    return [match_hash(event.name, path, value) for path, value in found if value is not None]


def answers(event: StoredEvent, wait: OpenWait) -> tuple[bool, str | None]:
    """Does the event answer the wait: the value itself is compared, then the condition judged."""
    if wait.trigger_id == event.id or match_value(event.data, wait.path) != wait.value:
        return False, None
    if wait.if_exp is None:
        return True, None
    scopes = {"async": event}
    if wait.trigger is not None:
        scopes["event"] = wait.trigger
    return _judge(compile_expression(wait.if_exp, names=WAIT_NAMES, what="if_exp of a wait"), scopes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an event is to a wait: its answer, or one that could not be judged."""

    event: StoredEvent
    wait: OpenWait
    answers: bool
    problem: str | None


def judged(event: StoredEvent, waits: Iterable[OpenWait]) -> list[Verdict]:
    """The waits that the event answers, and those that it could not be judged for."""
    verdicts = [Verdict(event, wait, *answers(event, wait)) for wait in waits]
    return [one for one in verdicts if one.answers or one.problem]
