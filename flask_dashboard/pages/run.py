"""One run."""

from flask import Blueprint, Response

from celeryflows.console.runs import run
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import show


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/runs/<run_id>", "show_run", show_run)


def show_run(run_id: str) -> Response:
    """Its header, its steps on one time axis, and what each of them did."""
    return show("flows/run.html", detail=run(runtime(), run_id))
