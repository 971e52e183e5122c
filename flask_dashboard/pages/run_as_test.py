"""A run as a test to copy."""

from flask import Blueprint, Response

from celeryflows import UnknownEvent
from celeryflows.console.events import EventSummary, event
from celeryflows.console.runs import RunDetail, run
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import show
from flask_dashboard.presenters.test_code import test_code


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/runs/<run_id>/test", "show_test", show_test)


def show_test(run_id: str) -> Response:
    """The code, with what the run's waits found."""
    detail = run(runtime(), run_id)
    return show("flows/run_as_test.html", run=detail.run, code=test_code(detail, _answers(detail)))


def _answers(detail: RunDetail) -> dict[str, EventSummary]:
    found = {}
    for step in detail.steps:
        if step.kind == "wait" and step.event_id is not None:
            try:
                found[step.id] = event(runtime(), step.event_id).event
            except UnknownEvent:
                continue
    return found
