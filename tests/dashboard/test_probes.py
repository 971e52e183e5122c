"""For those who watch: alive, ready, and measures as Prometheus reads them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from celeryflows import StoreUnavailable
from celeryflows.console.audit import count
from celeryflows.console.keys import create_key
from celeryflows.store.workers import WorkerRow
from flask_dashboard import create_app

FAR = {"REMOTE_ADDR": "192.0.2.7"}


def measures(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(s.name, tuple(s.labels.values())): s.value for family in parsed(text) for s in family.samples}


def test_the_measures_are_those_of_the_store(shop, browser):
    with shop.runtime.store.connection() as connection:
        connection.workers.start(WorkerRow("w1", "shop", "r", 'celery@"one"', 7, "prefork", "celery"))
    shop.send("user/came", {})
    count(shop.runtime, 'hook refused a"b')
    answer = browser.get("/metrics")
    found = measures(answer.text)

    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert found["celeryflows_workers", ("alive",)] == 1
    assert found["celeryflows_leaders", ()] == 0
    assert found["celeryflows_queue_waiting_runs", ("celery",)] == 1
    assert found["celeryflows_events_unrouted", ()] == 0
    assert found["celeryflows_hook_refused_total", ('a"b',)] == 1


def test_measures_are_for_who_may_look(shop, browser):
    assert browser.get("/metrics", environ_base=FAR).status_code == 401
    assert browser.get("/metrics").status_code == 200
    key = create_key(shop.runtime, "prometheus", kind="api", who="test")
    header = {"Authorization": f"Bearer {key.secret}"}
    fresh = create_app(shop).test_client()
    assert fresh.get("/metrics", headers=header, environ_base=FAR).status_code == 200
    assert fresh.get("/metrics", headers={"Authorization": "Bearer no"}, environ_base=FAR).status_code == 403


def test_a_probe_needs_no_login_and_tells_nothing(shop, browser, monkeypatch):
    assert browser.get("/health", environ_base=FAR).json == {"status": "ok"}
    assert browser.get("/ready", environ_base=FAR).json == {"status": "ready"}

    def unavailable(*_: object) -> None:
        raise StoreUnavailable("The store postgresql://user@secret-host/db does not answer")

    monkeypatch.setattr("celeryflows.store.connection.Connection.now", unavailable)
    answer = browser.get("/ready", environ_base=FAR)
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")
    assert "secret-host" not in answer.text
    assert browser.get("/health", environ_base=FAR).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_a_probe_is_only_looked_at(browser, path):
    assert browser.post(path).status_code == 405
