"""How all runs of the flow of every core kind have ended, as the store and the witness tell it."""

from celery import Celery

from celeryflows import Event
from tests.worlds import World

STEPS = {"step0": "step 0", "step1": "step 1", "step2": "step 2", "stumble": "stumble", "last": "last"}


def send_all(app: Celery, events: list[Event]) -> None:
    for first in range(0, len(events), 1000):
        app.flows.send(events[first : first + 1000])


def number_of(world: World, condition: str) -> int:
    return int(world.rows(f"SELECT count(*) FROM flows_runs WHERE {condition}")[0][0])


def look(world: World, count: int) -> None:
    """So many runs came each to its one end, and what is recorded of each step is what it did last."""
    runs = [row[0] for row in world.rows("SELECT id FROM flows_runs")]
    assert world.rows("SELECT status, count(*) FROM flows_runs GROUP BY status") == [("completed", count)]
    recorded: dict[str, dict[str, str]] = {run: {} for run in runs}
    for run, key, value in world.rows("SELECT run_id, key, value FROM flows_steps WHERE kind = 'run'"):
        recorded[run][key] = value.strip('"')
    executed: dict[str, dict[str, str]] = {run: {} for run in runs}
    for line in world.lines():
        run, step, execution = line.split(" ")
        executed[run][step] = execution
    for run in runs:
        assert {step: recorded[run][key] for step, key in STEPS.items()} == executed[run]
    assert world.rows("SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL") == [(0,)]
