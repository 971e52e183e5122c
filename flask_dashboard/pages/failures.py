"""Failures: what failed for the same reason as one, the most frequent first."""

import json
from datetime import UTC, datetime

from flask import Blueprint, Response, request, url_for

from celeryflows.console.failures import FailureGroup, failures
from celeryflows.console.flows import flow_names
from flask_dashboard.desk import runtime
from flask_dashboard.pages.runs import CUSTOM, RANGES
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.links import here, with_questions


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/failures", "list_failures", list_failures)


def list_failures() -> Response:
    """The groups of the newest failed runs."""
    flow, range = request.args.get("flow", ""), request.args.get("range", "7d")
    length = RANGES.get(range, RANGES["7d"])[1]
    after = None if length is None else datetime.now(UTC) - length
    found = failures(runtime(), flow=flow or None, after=after)
    return show(
        "flows/failures.html",
        found=found,
        links={group.fingerprint + group.flow: _runs_of(group) for group in found.groups},
        flow=flow,
        flow_names=flow_names(runtime()),
        range=range,
        ranges=[(key, label) for key, (label, _) in RANGES.items() if key != CUSTOM],
        live_url=here(part=LIVE),
    )


def _runs_of(group: FailureGroup) -> str:
    """The list of runs, with a condition that is true for this error."""
    condition = f"error.name == {json.dumps(group.error.name)}"
    if group.step is not None:
        condition += f" && error.step_id == {json.dumps(group.step)}"
    return with_questions(url_for(".list_runs"), {"status": "failed", "flow": group.flow, "if": condition})
