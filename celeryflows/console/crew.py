"""The crew on the desk: each worker with what it has in hand, each queue with what waits and who serves it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from celeryflows.console.pages import moment
from celeryflows.console.workers import WorkerSummary, workers
from celeryflows.durations import SECOND
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import Delivery
from celeryflows.store.reports.flows import list_flows
from celeryflows.store.reports.work import InHand, WaitingFlow, in_hand, waiting

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
    workers serve it. The store counts, so that a message that was lost counts too. `messages`: what the broker has in
    it, those of plain tasks too, None where it cannot be asked."""

    name: str
    waiting: int
    oldest: datetime | None
    flows: tuple[WaitingFlow, ...]
    workers: int
    messages: int | None = None


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
    with runtime.store.connection() as connection:
        # Of flows that this process does not declare, the store knows how they are sent.
        runtime.catalog.read(connection)
    named: dict[str, list[WaitingFlow]] = defaultdict(list)
    for flow in list_flows(runtime.store):
        if flow.removed_at is None:
            named[runtime.queues.queue_of(Delivery("", flow.definition.name))] += []
    for waits in waiting(runtime.store):
        named[runtime.queues.queue_of(Delivery("", waits.flow, waits.message))].append(waits)
    serving = {name: sum(one.alive and name in one.queues for one in found) for name in named}
    messages = runtime.queues.lengths(named)
    return [
        Queue(
            name=name,
            waiting=sum(one.count for one in flows),
            oldest=moment(min((one.oldest for one in flows if one.oldest is not None), default=None)),
            flows=_by_flow(flows),
            workers=serving[name],
            messages=messages[name],
        )
        for name, flows in sorted(named.items())
    ]


def _by_flow(found: Sequence[WaitingFlow]) -> tuple[WaitingFlow, ...]:
    """Each flow once, the most first."""
    together: dict[str, WaitingFlow] = {}
    for one in found:
        known = together.get(one.flow, WaitingFlow(one.flow, 0, None))
        oldest = min((at for at in (known.oldest, one.oldest) if at is not None), default=None)
        together[one.flow] = WaitingFlow(one.flow, known.count + one.count, oldest)
    return tuple(sorted(together.values(), key=lambda one: -one.count))


def _is_late(queue: Queue, now: int) -> bool:
    return queue.oldest is not None and now - int(queue.oldest.timestamp() * SECOND) > IDLE_AFTER


def _is_deaf(hand: Hand, late: set[str]) -> bool:
    return hand.worker.alive and not hand.turns and any(queue in late for queue in hand.worker.queues)
