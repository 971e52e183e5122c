"""Flows: the list with each one's last day, and the crons that come next."""

from flask import Blueprint, Response

from celeryflows.console.figures import last_day
from celeryflows.console.flow_pages import all_options
from celeryflows.console.flows import flows
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.charts import percent, spark
from flask_dashboard.presenters.links import here


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/flows", "list_flows", list_flows)


def list_flows() -> Response:
    """Every flow with its triggers and limits, and how its last day was."""
    days = last_day(runtime())
    found = flows(runtime())
    crons = sorted(
        (cron for flow in found for cron in flow.crons if cron.next_at is not None and flow.paused_at is None),
        key=lambda cron: (cron.next_at, cron.flow),
    )
    return show(
        "flows/flows.html",
        flows=found,
        options=all_options(runtime()),
        days=days,
        sparks={name: spark(day.runs, day.failed) for name, day in days.items()},
        rates={name: None if day.rate is None else percent(day.rate) for name, day in days.items()},
        crons=crons[:8],
        live_url=here(part=LIVE),
    )
