"""One flow: how it does, and what can be done about it."""

import json
from typing import Any

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows import FlowsError, StoreError
from celeryflows.console import actions
from celeryflows.console.figures import RANGES, series
from celeryflows.console.flow_pages import flow_page
from celeryflows.console.limit_uses import limit_series
from celeryflows.console.run_lines import run_lines
from celeryflows.console.searching import wanted_runs
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters import charts
from flask_dashboard.presenters.limit_charts import limit_charts
from flask_dashboard.presenters.links import here

NEWEST = 10


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/flows/<path:name>", "show_flow", show_flow)
    for view in (pause_flow, resume_flow, invoke_flow):
        word = view.__name__.partition("_")[0]
        pages.add_url_rule(f"/flow-acts/{word}/<path:name>", view.__name__, view, methods=["POST"])


def show_flow(name: str) -> Response:
    """Its options, charts, limits and newest runs."""
    page, range = flow_page(runtime(), name), read_range()
    found = series(runtime(), name, range)
    return show(
        "flows/flow.html",
        page=page,
        flow=page.flow,
        range=range,
        ranges=list(RANGES),
        shapes=all_charts(found) + limit_charts(limit_series(runtime(), range, flow=name)),
        newest=run_lines(runtime(), wanted_runs(flow=name), limit=NEWEST).items,
        live_url=here(part=LIVE),
    )


def all_charts(found: Any) -> list[charts.Chart]:
    """The charts of a flow, or of all of them."""
    shapes = (
        charts.runs_chart,
        charts.failures_chart,
        charts.duration_chart,
        charts.backlog_chart,
        charts.delay_chart,
        charts.oldest_chart,
    )
    return [shape(found) for shape in shapes]


def read_range() -> str:
    """The range that the page is asked for."""
    asked = request.args.get("range", "24h")
    return asked if asked in RANGES else "24h"


@acting
def pause_flow(name: str) -> Answer:
    """Let nothing start it any more; what runs goes on, or is cancelled."""
    paused = actions.pause(runtime(), name, cancel_running=request.form.get("running") == "cancel")
    more = f" {paused.cancelled} runs were cancelled." if paused.cancelled else ""
    flash(f"{name} is paused: what would start it is skipped.{more}", "good")
    return _back(name)


@acting
def resume_flow(name: str) -> Answer:
    """Let it start again."""
    actions.resume(runtime(), name)
    flash(f"{name} starts again.", "good")
    return _back(name)


@acting
def invoke_flow(name: str) -> Answer:
    """Start it with the data of the form; leads to the run."""
    try:
        data = json.loads(request.form.get("data") or "{}")
        run_id = actions.invoke(runtime(), name, data)
    except StoreError:
        raise
    except (FlowsError, ValueError) as error:
        flash(str(error), "bad")
        return _back(name)
    return redirect(url_for(".show_run", run_id=run_id))


def _back(name: str) -> Answer:
    return redirect(url_for(".show_flow", name=name))
