"""The runs of a world that came to rest, as the store tells them: what laws look at."""

import json
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import loads
from tests.simulation.plain import End
from tests.simulation.world import World

RUNS = """
SELECT r.id, r.flow, r.status, r.output, r.error, r.reason, r.wake_at, r.created_at, r.started_at, r.ended_at,
  r.parent, r.parent_key, r.continued_from, r.continued_as, e.data, e.id, e.ext_id, r.batch
FROM flows_runs r JOIN flows_events e ON e.id = r.event_id ORDER BY r.id
"""


@dataclass(frozen=True)
class Run:
    """A run. `number` is that of its program, `data` that of its event."""

    id: str
    number: int
    status: str
    output: str | None
    error: str | None
    reason: str | None
    wake_at: int | None
    created_at: int
    started_at: int | None
    ended_at: int
    parent: str | None
    parent_key: str | None
    continued_from: str | None
    continued_as: str | None
    data: dict[str, Any]
    event_id: str
    ext_id: str | None
    batch: int | None

    @property
    def end(self) -> End:
        """How it ended; of a run that was not cancelled."""
        if self.continued_as is not None:
            return End(goes_on=True)
        if self.status == "completed":
            return End(value=loads(self.output or ""))
        failure = json.loads(self.error or "")
        return End(error=(failure["name"], failure["message"]))


def runs_of(world: World) -> dict[str, Run]:
    """All runs by id."""
    return {row[0]: _run(row) for row in world.look(RUNS)}


def _run(row: tuple[Any, ...]) -> Run:
    id, flow, *rest, data, event_id, ext_id, batch = row
    return Run(id, int(flow.removeprefix("flow")), *rest, json.loads(data), event_id, ext_id, batch)


def line_of(runs: dict[str, Run], run: Run) -> list[Run]:
    """The run and those that went before it, the newest first."""
    line = [run]
    while (before := line[-1].continued_from) is not None:
        line.append(runs[before])
    return line


def last_of(runs: dict[str, Run], run: Run) -> Run:
    """Who goes on for it in the end, itself when nobody does."""
    while run.continued_as is not None:
        run = runs[run.continued_as]
    return run
