"""For those who watch the server: `/health`, `/ready`, and `/metrics` as Prometheus reads them."""

from collections.abc import Iterable, Sequence
from math import isinf
from typing import Any

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from werkzeug.exceptions import Forbidden, Unauthorized

from celeryflows import StoreError
from celeryflows.console.counters import Spread, counters, limit_gauges
from celeryflows.console.gauges import Gauge, gauges, is_ready
from celeryflows.console.keys import API
from flask_dashboard.answers import told
from flask_dashboard.auth import Role, roles
from flask_dashboard.bounds import headers_of
from flask_dashboard.door import Door
from flask_dashboard.rest_forms import as_json, refusal

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def create_probes(door: Door) -> Blueprint:
    """The door as a blueprint."""
    probes = Blueprint("probes", __name__)
    probes.register_error_handler(Exception, _refused)

    @probes.get("/health")
    def health() -> Response:
        return as_json({"status": "ok"})

    @probes.get("/ready")
    def ready() -> Response:
        try:
            is_ready(door.flows.runtime)
        except StoreError as error:
            return as_json({"status": "not ready", "why": told(error)[1]}, 503)
        return as_json({"status": "ready"})

    @probes.get("/metrics")
    def metrics() -> Response:
        _check(door)
        runtime = door.flows.runtime
        found = [*gauges(runtime), *limit_gauges(runtime), *counters(runtime)]
        return Response(prometheus_text(found), content_type=TEXT)

    return probes


def _check(door: Door) -> None:
    """Measures are for who may look: by a key of the REST API, by a login, or on this host."""
    door.bounds.pass_one("rest", request)
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and door.keys.opens(API, key.strip()) is not None:
        return
    if Role.LOOK in roles():
        return
    door.bounds.pass_one("refused", request)
    if kind:
        raise Forbidden("This key may not look.")
    raise Unauthorized("Give a key of the REST API: Authorization: Bearer <key>")


class _Given(Collector):
    """Measures that were taken already."""

    def __init__(self, found: Sequence[Gauge | Spread]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """One family for each name."""
        families: dict[str, Any] = {}
        for one in self._found:
            family = families.get(one.name)
            if family is None:
                family = families[one.name] = _kind(one)(one.name, one.help, labels=list(one.labels))
            labels = list(one.labels.values())
            if isinstance(one, Gauge):
                family.add_metric(labels, one.value)
            elif one.buckets:
                family.add_metric(
                    labels, [("+Inf" if isinf(le) else repr(le), n) for le, n in one.buckets], one.seconds
                )
            else:
                family.add_metric(labels, one.count, one.seconds)
        return families.values()


def _kind(one: Gauge | Spread) -> Any:
    if isinstance(one, Gauge):
        return CounterMetricFamily if one.name.endswith("_total") else GaugeMetricFamily
    return HistogramMetricFamily if one.buckets else SummaryMetricFamily


def prometheus_text(found: Sequence[Gauge | Spread]) -> bytes:
    """Measures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(found))
    return generate_latest(registry)


def _refused(error: Exception) -> Response:
    status, words = told(error)
    response = refusal(status, words)
    response.headers.update(headers_of(error))
    return response
