"""Metrics: throughput, latency, failures and backlog over time, of all flows or of one."""

from flask import Blueprint, Response, request

from celeryflows.console.figures import RANGES, by_flow, failure_rate, series
from celeryflows.console.flows import flow_names
from flask_dashboard.desk import runtime
from flask_dashboard.pages.flow import all_charts, read_range
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.charts import percent
from flask_dashboard.presenters.links import here


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/figures", "show_metrics", show_metrics)


def show_metrics() -> Response:
    """The charts over the chosen time."""
    flow, range = request.args.get("flow", ""), read_range()
    found, each = series(runtime(), flow, range), by_flow(runtime(), range) if not flow else {}
    return show(
        "flows/metrics.html",
        flow=flow,
        flow_names=flow_names(runtime()),
        range=range,
        ranges=list(RANGES),
        total=found.total,
        by_flow=each,
        rates={name: _shown(failure_rate(one)) for name, one in each.items()},
        rate=_shown(found.failure_rate),
        per_minute=found.total.made / (found.step.total_seconds() * len(found.points) / 60),
        shapes=all_charts(found),
        live_url=here(part=LIVE),
    )


def _shown(rate: float | None) -> str:
    return "" if rate is None else percent(rate)
