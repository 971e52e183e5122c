"""What happened lately, found by indexes alone so that it can be asked several times a second."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from celeryflows.durations import MILLISECOND
from celeryflows.ids import seeded_ids
from celeryflows.model.events import CRON_FIRED, FLOW_INVOKED
from celeryflows.model.runs import OPEN
from celeryflows.store.database import Store
from celeryflows.store.reports.events import EVENT, EventView
from celeryflows.store.reports.reading import read
from celeryflows.store.reports.runs import RUN, STEP, STEPS_AND_WAITS, RunView, StepView, order_of, standing
from celeryflows.store.schema import events, runs, steps

# Their ids follow from a flow and a moment, or from a caller: they tell no time.
UNORDERED = (CRON_FIRED, FLOW_INVOKED)
MOST = 500
_TIME_LETTERS = 10


@dataclass(frozen=True, slots=True)
class StepOf:
    """A step and its run."""

    run_id: str
    step: StepView


def events_since(store: Store, since: int) -> list[EventView]:
    """Events stored since then (microseconds), the oldest first, our own about crons and calls among them."""
    kinds = (events.c.id >= _first_id(since), events.c.name.in_(UNORDERED) & (events.c.arrived_at >= since))
    found: dict[str, EventView] = {}
    for kind in kinds:
        query = select(*EVENT).where(kind).order_by(events.c.id.desc()).limit(MOST)
        found |= {row[0]: EventView(*row) for row in read(store, query)}
    return sorted((event for event in found.values() if event.stored_at >= since), key=lambda e: (e.stored_at, e.id))


def runs_since(store: Store, since: int, also: Collection[str]) -> list[RunView]:
    """Runs made since then, runs that are open, and those that are named; the bound is on each kind."""
    started_by = select(events.c.id).where(events.c.name.in_(UNORDERED), events.c.arrived_at >= since)
    kinds = (runs.c.id >= _first_id(since), runs.c.event_id.in_(started_by), runs.c.id.in_(sorted(also)))
    queries = [
        *(select(*RUN).where(kind).order_by(runs.c.id.desc()) for kind in kinds),
        # One by one: of several at once the newest 500 may cost a look at all that ended since.
        *(select(*RUN).where(standing(status)).order_by(order_of(status).desc()) for status in sorted(OPEN)),
    ]
    found: dict[str, RunView] = {}
    for query in queries:
        found |= {row[0]: RunView(*row) for row in read(store, query.limit(MOST))}
    return sorted(found.values(), key=lambda run: (run.created_at, run.id))


def steps_of(store: Store, run_ids: Sequence[str]) -> list[StepOf]:
    """The steps of these runs, in the order in which they began."""
    query = (
        select(steps.c.run_id, *STEP)
        .select_from(STEPS_AND_WAITS)
        .where(steps.c.run_id.in_(run_ids))
        .order_by(steps.c.began, steps.c.ended_at, steps.c.key)
    )
    return [StepOf(row[0], StepView(*row[1:])) for row in read(store, query)]


def _first_id(since: int) -> str:
    """Sorts before every id that was made since then."""
    return next(iter(seeded_ids(max(0, since // MILLISECOND), b"")))[:_TIME_LETTERS]
