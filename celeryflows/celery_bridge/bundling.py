"""Which runs travel together: several of one quick flow that become ready at once need no message each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery
from celery.app.task import Task

from celeryflows.model.runs import Delivery

TASK = "celeryflows.runs"
# In a run's request, inside the process that has the bundle: the runs that came with it.
BUNDLED = "flows_bundled"
# A list fills so many bundles or more, so that many processes find something to do.
SPREAD = 8
# Microseconds: so long a run may take, and a bundle together.
QUICK, TOGETHER = 10_000, 50_000
# Options of a flow's messages that its bundle may have as well.
_ROUTES = frozenset({"queue", "routing_key", "exchange", "priority", "delivery_mode"})


class Bundling:
    """Sorts deliveries into what is sent by one message each. Only what differs in nothing but its run goes together,
    and nothing whose own message Celery counts, limits or tells of."""

    def __init__(
        self,
        app: Celery,
        sent_with: Callable[[str], Mapping[str, Any]],
        task_of: Callable[[str], str],
        pace_of: Callable[[str], int | None],
        most: int,
    ) -> None:
        self._app = app
        self._most = most
        self._pace_of = pace_of
        self._sent_with = sent_with
        self._task_of = task_of

    def sorted(self, deliveries: Sequence[Delivery]) -> list[Sequence[Delivery]]:
        """One list for each message: of one delivery, or of several runs of a flow."""
        if len(deliveries) < 2 * SPREAD:
            return [[one] for one in deliveries]
        flows: dict[str, list[Delivery]] = {}
        messages: list[Sequence[Delivery]] = []
        for one in deliveries:
            if one.message or one.branch or one.alone:
                messages.append([one])
            else:
                flows.setdefault(one.flow, []).append(one)
        for flow, runs in flows.items():
            size = len(runs) // SPREAD
            size = min(size, self._at_most(flow)) if size > 1 else 1
            messages += [runs[first : first + size] for first in range(0, len(runs), size)]
        return messages

    def _at_most(self, flow: str) -> int:
        """So many runs of the flow may share a message. Of one that nobody has counted lately each has its own."""
        if not self._may_share(flow):
            return 1
        pace = self._pace_of(flow)
        return 1 if pace is None or pace > QUICK else min(self._most, TOGETHER // max(pace, 1))

    def _may_share(self, flow: str) -> bool:
        conf, task = self._app.conf, self._app.tasks.get(self._task_of(flow))
        if not getattr(task, "is_flow", False) or conf.task_send_sent_event or conf.worker_send_task_events:
            return False
        limits = (task.time_limit, task.soft_time_limit) == (conf.task_time_limit, conf.task_soft_time_limit)
        base: Any = type(task).__mro__[1]
        return bool(
            limits
            and task.rate_limit is None
            and task.acks_late
            and task.reject_on_worker_lost
            and base.apply_async is Task.apply_async
            and self._sent_with(flow).keys() <= _ROUTES
        )
