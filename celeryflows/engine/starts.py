"""A start on its way through admission: the run to write, the event that starts it, and what its flow asks."""

from dataclasses import dataclass, replace

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import NONE, Limits
from celeryflows.model.runs import NewRun, Status
from celeryflows.store.links import Link


@dataclass(frozen=True, slots=True)
class Start:
    """A run to write and the event that starts it; `flow` is None for one that this process knows nothing of.

    `link`: whom the run belongs to. `joined`: the run that the event ended up in instead, so that none is written.
    """

    run: NewRun
    event: StoredEvent
    flow: FlowDefinition | None
    link: Link | None = None
    joined: str | None = None

    @property
    def limits(self) -> Limits:
        """Those of its flow, as the store knows it."""
        return NONE if self.flow is None else self.flow.limits

    @property
    def is_under_way(self) -> bool:
        """True until a limit has skipped it, or put it to another run."""
        return self.run.status is not Status.SKIPPED and self.joined is None

    @property
    def may_start(self) -> bool:
        """True when it is to start now, as far as the limits before have said."""
        return self.run.status is Status.QUEUED and self.joined is None

    def skipped(self, reason: str) -> "Start":
        """The same, skipped."""
        run = replace(self.run, status=Status.SKIPPED, reason=reason, wake_at=None, expires_at=None, start_within=None)
        return replace(self, run=run)


def a_start(runtime: Runtime, catalog: Snapshot, run: NewRun, event: StoredEvent, link: Link | None = None) -> Start:
    """A start by the flow's name: as the store knows the flow, else as this process does."""
    mine = runtime.flows.get(run.flow)
    return Start(run, event, catalog.flows.get(run.flow) or (mine.definition if mine is not None else None), link)
