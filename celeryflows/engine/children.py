"""Children: the runs that a suspending turn starts by `invoke`, in its own transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.engine.admission import Admitted, write
from celeryflows.engine.passage import Passage
from celeryflows.engine.pipeline import Judged, judge
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, plan
from celeryflows.engine.starts import a_start
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


def judge_children(
    runtime: Runtime,
    tx: Connection,
    parent: str,
    children: Sequence[tuple[str, Child]],
    passage: Passage | None = None,
    *,
    again: bool,
) -> Judged:
    """What becomes of the children, by the keys of the parent's steps, before its row is locked.

    `again`: none when an earlier try, whose reply was lost, has started them.
    """
    if again and tx.events.get(children[0][1].event.id) is not None:
        return Judged()
    catalog = runtime.catalog.read(tx)
    starts = [a_start(runtime, catalog, child.run, child.event, Link(parent, key)) for key, child in children]
    return judge(runtime, tx, catalog, starts, passage)


def add_children(tx: Connection, parent: str, children: Sequence[tuple[str, Child]], judged: Judged) -> Admitted:
    """Start the children of a locked parent, and open its waits for them."""
    for _, child in children:
        tx.events.add_private(child.event)
    admitted = write(tx, judged)
    for (key, child), start in zip(children, judged.starts, strict=True):
        tx.links.arm(
            derived_id("wait", parent, key),
            Link(parent, key),
            start.joined or start.run.id,
            due=child.due,
            began=child.began,
            bound=child.bound,
        )
    return admitted
