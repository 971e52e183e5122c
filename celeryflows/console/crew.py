"""The crew on the desk: each worker with what it has in hand, each queue with what waits and who serves it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from celeryflows.console.pages import moment
from celeryflows.console.workers import WorkerSummary, workers
from celeryflows.durations import SECOND
from celeryflows.engine.runtime import Runtime
from celeryflows.store.reports.flows import list_flows
from celeryflows.store.reports.work import InHand, WaitingFlow, in_hand, waiting

DEFAULT_QUEUE = "celery"
# A message that waits so long while a worker of its queue does nothing: that worker is not consuming.
IDLE_AFTER = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Hand:
    """A worker and the turns that it is at work on. `deaf`: it is alive, does nothing, and what its queues hold waits
    for long."""

    worker: WorkerSummary
    turns: tuple[InHand, ...]
    deaf: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the broker: the runs that wait for a worker there, the oldest since `oldest`, by flow; how many living
    workers serve it. The store counts, so that a message that was lost counts too."""

    name: str
    waiting: int
    oldest: datetime | None
    flows: tuple[WaitingFlow, ...]
    workers: int


@dataclass(frozen=True, slots=True)
class Crew:
    """All hands, and all queues that flows go to."""

    hands: tuple[Hand, ...]
    queues: tuple[Queue, ...]


def crew(runtime: Runtime) -> Crew:
    """Who works, on what, and what waits."""
    found = workers(runtime)
    turns: dict[str, list[InHand]] = defaultdict(list)
    for one in in_hand(runtime.store):
        turns[one.worker].append(one)
    queues = _queues(runtime, found)
    with runtime.store.connection() as connection:
        now = connection.now()
    late = {queue.name for queue in queues if _is_late(queue, now)}
    hands = (Hand(one, tuple(turns.get(one.id, ()))) for one in found)
    return Crew(tuple(replace(hand, deaf=_is_deaf(hand, late)) for hand in hands), tuple(queues))


def _queues(runtime: Runtime, found: Sequence[WorkerSummary]) -> list[Queue]:
    by_flow = {one.flow: one for one in waiting(runtime.store)}
    named: dict[str, list[WaitingFlow]] = defaultdict(list)
    for flow in list_flows(runtime.store):
        queue = str(flow.definition.send.get("queue") or DEFAULT_QUEUE)
        waits = by_flow.pop(flow.definition.name, None)
        if flow.removed_at is None or waits is not None:
            named[queue] += [waits] if waits is not None else []
    for left in by_flow.values():
        named[DEFAULT_QUEUE].append(left)
    serving = {name: sum(one.alive and name in one.queues for one in found) for name in named}
    return [
        Queue(
            name=name,
            waiting=sum(one.count for one in flows),
            oldest=moment(min((one.oldest for one in flows if one.oldest is not None), default=None)),
            flows=tuple(sorted(flows, key=lambda one: -one.count)),
            workers=serving[name],
        )
        for name, flows in sorted(named.items())
    ]


def _is_late(queue: Queue, now: int) -> bool:
    return queue.oldest is not None and now - int(queue.oldest.timestamp() * SECOND) > IDLE_AFTER


def _is_deaf(hand: Hand, late: set[str]) -> bool:
    return hand.worker.alive and not hand.turns and any(queue in late for queue in hand.worker.queues)
