"""Declared flows and cron triggers as pages and terminals show them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from celeryflows.model.flows import FlowDefinition, read_definition
from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import crons, flows


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow that the store knows. Times in microseconds."""

    definition: FlowDefinition
    app: str
    seen_at: int
    removed_at: int | None
    paused_at: int | None


@dataclass(frozen=True, slots=True)
class CronView:
    """A cron trigger that the store knows, when it fires next, and when it was missed last and that was seen."""

    flow: str
    trigger_no: int
    next_at: int | None
    missed_due: int | None = None
    missed_seen: int | None = None


def list_flows(store: Store) -> list[FlowView]:
    """Every flow, removed ones too, by name."""
    columns = (flows.c.name, flows.c.definition, flows.c.app, flows.c.seen_at, flows.c.removed_at, flows.c.paused_at)
    query: Select[Any] = select(*columns).order_by(flows.c.name)
    return [FlowView(read_definition(name, text), *rest) for name, text, *rest in read(store, query)]


def list_crons(store: Store) -> list[CronView]:
    """Every cron trigger, by flow."""
    columns = (crons.c[name] for name in CronView.__dataclass_fields__)
    query = select(*columns).order_by(crons.c.flow, crons.c.trigger_no)
    return [CronView(*row) for row in read(store, query)]
