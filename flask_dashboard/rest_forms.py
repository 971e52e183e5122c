"""The REST API's forms: an event and a run as Inngest's clients read them, in an envelope that tells their age."""

import json
from datetime import UTC, datetime
from typing import Any

from flask import Response

from celeryflows import Status
from celeryflows.console.events import EventSummary
from celeryflows.console.lookups import RunWithEvent
from celeryflows.console.plain import json_form

WORDS = {
    Status.SCHEDULED: "Queued",
    Status.QUEUED: "Queued",
    Status.RUNNING: "Running",
    Status.SUSPENDED: "Running",
    Status.COMPLETED: "Completed",
    Status.FAILED: "Failed",
    Status.CANCELLED: "Cancelled",
    Status.SKIPPED: "Skipped",
}
CRON_FIRED = "flows/cron.fired"


def event_form(event: EventSummary) -> dict[str, Any]:
    """An event. `internal_id` is ours, `id` the sender's own where there is one."""
    return {
        "internal_id": event.id,
        "id": event.key or event.id,
        "name": event.name,
        "data": json_form(event.data),
        "ts": int(event.ts.timestamp() * 1000),
        "v": event.v,
        "received_at": event.stored_at.isoformat(),
    }


def run_form(found: RunWithEvent) -> dict[str, Any]:
    """A run. `output` is its value, the error of one that failed, the reason of one that was cancelled or skipped."""
    run, event = found.run, found.event
    is_cron = event is not None and event.name == CRON_FIRED
    return {
        "run_id": run.id,
        "run_started_at": _moment(run.started_at or run.created_at),
        "function_id": run.flow,
        "function_version": run.version,
        "event_id": run.event_id,
        "batch_id": None,
        "original_run_id": run.origin,
        "cron": event.data.get("cron") if event is not None and is_cron else None,
        "status": WORDS[run.status],
        "ended_at": _moment(run.ended_at),
        "output": _output(found),
    }


def answer(data: Any, status: int = 200, **metadata: Any) -> Response:
    """Data in its envelope."""
    now = datetime.now(UTC).isoformat()
    return as_json({"data": data, "metadata": {"fetched_at": now, "cached_until": None, **metadata}}, status)


def refusal(status: int, words: str) -> Response:
    """An error in its envelope."""
    return as_json({"error": words, "status": status}, status)


def as_json(value: Any, status: int = 200) -> Response:
    """A response of JSON."""
    return Response(json.dumps(value, ensure_ascii=False), status, content_type="application/json")


def _output(found: RunWithEvent) -> Any:
    run = found.run
    if run.status is Status.COMPLETED:
        return json_form(run.output)
    if run.status is Status.FAILED and run.error is not None:
        return {"name": run.error.name, "message": run.error.message, "stack": run.error.stack}
    return {"reason": run.reason} if run.reason is not None else None


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
