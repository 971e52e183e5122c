"""A start on its way through admission: the run to write, the event that starts it, and what its flow asks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.runtime import Runtime
from celeryflows.flow_control.keys import Key, key_of
from celeryflows.model.calls import roots
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import NONE, Limits
from celeryflows.model.runs import NewRun, Place, Reached, Status
from celeryflows.store.connection import Connection
from celeryflows.store.links import Link


@dataclass(frozen=True)
class Start:
    """A run to write and the event that starts it; `flow` is None for one that this process knows nothing of.

    `link`: whom the run belongs to. `joined`: the run that the event ended up in instead, so that none is written;
    `renews`: that run starts with this event from now on. `replaces`: the run that this one puts an end to.
    """

    run: NewRun
    event: StoredEvent
    flow: FlowDefinition | None
    link: Link | None = None
    joined: str | None = None
    renews: bool = False
    replaces: str | None = None

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

    @property
    def waits(self) -> bool:
        """True in a debounce or a batch: whether its flow is paused is asked when that closes."""
        return self.run.status is Status.SCHEDULED and self.run.place is not None and self.run.place.held_at is not None

    @cached_property
    def scope(self) -> Mapping[str, Any]:
        """What expressions see."""
        return roots(self.flow, self.event)

    def key(self, kind: str, expression: str | None) -> Key:
        """A limit's key with its value for this event."""
        return key_of(kind, self.run.flow, expression, self.scope)

    def skipped(self, reason: str, key: Key | None = None) -> "Start":
        """The same, skipped; `key` is that of the limit, where it was one."""
        reached = Reached(key.kind, key.value) if key is not None else None
        place = Place(batch=self.run.place.batch) if self.run.place is not None and self.run.place.batch else None
        run = replace(
            self.run,
            status=Status.SKIPPED,
            reason=reason,
            wake_at=None,
            expires_at=None,
            start_within=None,
            place=place,
            reached=reached,
        )
        return replace(self, run=run)


def joined_reason(run_id: str) -> str:
    """Why a start has no run of its own: its event is in another one's."""
    return f"joined run {run_id}"


def told_key(tx: Connection, key: Key) -> Key:
    """A limit's key as the reason of a skip tells it: reasons stand readable in the store, payloads may not."""
    return key if tx.sealer is None or tx.sealer.writes_under is None else key.hidden()


def a_start(runtime: Runtime, catalog: Snapshot, run: NewRun, event: StoredEvent, link: Link | None = None) -> Start:
    """A start by the flow's name: as the store knows the flow, else as this process does."""
    mine = runtime.flows.get(run.flow)
    return Start(run, event, catalog.flows.get(run.flow) or (mine.definition if mine is not None else None), link)
