"""Whether today's code still fits recorded runs: `check_history`, for a test that stands before each deploy."""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from celeryflows.app import current_flows
from celeryflows.clock import SystemClock
from celeryflows.console import history as desk
from celeryflows.engine.checking import RunCheck
from celeryflows.model.flows import flow_name
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.store.database import Store


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What a check found: a RunCheck (`run_id flow version status findings breaks`) for each run, in order."""

    runs: tuple[RunCheck, ...]

    @property
    def breaks(self) -> tuple[RunCheck, ...]:
        """The runs that today's code would break."""
        return tuple(run for run in self.runs if run.breaks)

    @property
    def differences(self) -> tuple[RunCheck, ...]:
        """The runs for which anything was found: steps removed or added too."""
        return tuple(run for run in self.runs if run.findings)

    @property
    def ok(self) -> bool:
        """True when no run would break."""
        return not self.breaks

    def __iter__(self) -> Iterator[RunCheck]:
        return iter(self.runs)

    def __str__(self) -> str:
        found = [
            f"{run.flow} {run.run_id}: {finding.what}: {finding.text}" for run in self.runs for finding in run.findings
        ]
        return "\n".join([f"{len(self.runs)} runs checked, {len(self.breaks)} would break", *found])


def check_history(
    flows: Any = current_flows,
    source: str | PathLike[str] | None = None,
    *,
    flow: Any = None,
    status: str | None = None,
    limit: int | None = None,
) -> HistoryReport:
    """Run today's handlers over recorded runs; their steps are answered from the record, and no step is ever done.

    `source` is a file that `flows export` wrote; None: the store of `flows`, the newest runs first. `flow` (its task or
    name), `status` (or "open") and `limit` choose among them. Code between steps runs, as it does in each turn.
    Raises FlowsError for a file that is no export.

        def test_the_code_fits_the_runs_of_last_week(flows):
            report = check_history(flows, "histories.jsonl")
            assert report.ok, report
    """
    name = None if flow is None else flow_name(flow)
    if source is None:
        return HistoryReport(tuple(desk.check_store(flows.runtime, flow=name, status=status, limit=limit)))
    clock = SystemClock()
    runtime = flows.runtime_on(Store("sqlite://", clock=clock), InlineDispatcher(), clock)
    with Path(source).open(encoding="utf-8") as lines:
        return HistoryReport(tuple(desk.check_lines(runtime, lines, flow=name, status=status, limit=limit)))
