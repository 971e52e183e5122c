"""Children: the runs that a suspending turn starts by `invoke`, in its own transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from celeryflows.engine.admission import add_linked, as_flow_says
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, plan
from celeryflows.ids import derived_id, seeded_ids
from celeryflows.model.events import Event, StoredEvent
from celeryflows.model.runs import NewRun
from celeryflows.store.connection import Connection
from celeryflows.store.links import Link


@dataclass(frozen=True, slots=True)
class Child:
    """A run to start and its event. `bound`: it is cancelled with its parent."""

    run: NewRun
    event: StoredEvent
    bound: bool
    due: int
    began: int


def child_id(parent: str, key: str, began: int) -> str:
    """The id follows from parent and step, so that whoever tries again starts the same run."""
    return next(seeded_ids(began // 1000, derived_id("invoke", parent, key).encode()))


def plan_child(
    runtime: Runtime, connection: Connection, flow: str, event: Event, run_id: str
) -> tuple[NewRun, StoredEvent]:
    """The child and its event, checked. Raises UnknownFlow, InvalidEvent and what data raises that cannot be stored."""
    return plan(runtime, Call(flow, event, run_id), connection)


def add_children(
    runtime: Runtime, tx: Connection, parent: str, children: Sequence[tuple[str, Child]]
) -> list[tuple[str, Child]]:
    """Start the children of a locked parent, by the keys of its steps, and open its waits for them; as they were
    written: one of a paused flow is skipped."""
    written: list[tuple[str, Child]] = []
    for key, child in children:
        link = Link(parent, key)
        tx.events.add_private(child.event)
        run = as_flow_says(runtime, tx, child.run)
        add_linked(runtime, tx, run, child.event, link)
        written.append((key, replace(child, run=run)))
        tx.links.arm(
            derived_id("wait", parent, key), link, child.run.id, due=child.due, began=child.began, bound=child.bound
        )
    return written
