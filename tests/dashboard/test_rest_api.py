"""The REST API: what it shows and does, and the right status for what is missing, wrong or not allowed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from celeryflows import Event, Flows, StoreUnavailable
from celeryflows.console.audit import audit
from celeryflows.console.keys import create_key, revoke_key
from celeryflows.engine.turn import take_turn
from flask_dashboard import create_app


@pytest.fixture
def run_id(shop: Flows) -> str:
    """A run that is queued."""
    shop.send(Event("user/came", {"n": 1}, id="own"))
    return shop.runs()[0].id


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_events_are_listed_newest_first_in_pages_and_by_name_and_time(shop, browser):
    ids = shop.send([Event(f"list/{n % 2}", {"n": n}) for n in range(5)])
    first = browser.get("/v1/events?limit=3").json
    rest = browser.get(f"/v1/events?limit=3&cursor={first['metadata']['cursor']}").json

    assert [event["internal_id"] for event in first["data"] + rest["data"]] == ids[::-1]
    assert rest["metadata"]["cursor"] is None
    assert [event["data"]["n"] for event in browser.get("/v1/events?name=list/1").json["data"]] == [3, 1]
    now = datetime.now(UTC)
    for query, count in (("received_after", 5), ("received_before", 0)):
        past = (now - timedelta(hours=1)).isoformat().replace("+", "%2B")
        assert len(browser.get(f"/v1/events?{query}={past}").json["data"]) == count


def test_an_event_and_its_runs_are_as_inngests_clients_read_them(shop, browser, run_id):
    event_id = shop.runs()[0].event_id
    event = browser.get(f"/v1/events/{event_id}").json["data"]
    (run,) = browser.get(f"/v1/events/{event_id}/runs").json["data"]

    assert (event["internal_id"], event["id"], event["name"], event["data"]) == (event_id, "own", "user/came", {"n": 1})
    assert abs(event["ts"] / 1000 - datetime.now(UTC).timestamp()) < 60
    assert (run["run_id"], run["function_id"], run["event_id"]) == (run_id, "greet", event_id)
    assert (run["status"], run["output"], run["ended_at"]) == ("Queued", None, None)


def test_a_run_has_its_value_when_it_is_completed(shop, browser, run_id):
    take_turn(shop.runtime, run_id)
    run = browser.get(f"/v1/runs/{run_id}").json["data"]

    assert (run["status"], run["output"]) == ("Completed", {"n": 1})
    assert run["ended_at"] is not None


def test_a_run_is_cancelled_once_and_one_that_has_ended_is_not(shop, browser, run_id):
    first, again = (browser.delete(f"/v1/runs/{run_id}") for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json["data"]["status"] == "Cancelled"

    (done,) = shop.send("user/came", {}) and shop.runs(status="queued")
    take_turn(shop.runtime, done.id)
    refused = browser.delete(f"/v1/runs/{done.id}")
    assert (refused.status_code, refused.json["status"]) == (409, 409)
    assert "completed" in refused.json["error"]


def test_runs_of_a_flow_are_cancelled_by_time_and_condition(shop, browser):
    shop.send([Event("user/came", {"n": n}) for n in range(4)])
    body = {"function_id": "greet", "started_after": "2020-01-01T00:00:00Z", "if": "event.data.n >= 2"}

    assert browser.post("/v1/cancellations", json=body).json["data"]["cancelled"] == 2
    assert len(shop.runs(status="cancelled")) == 2


def test_a_signal_that_nobody_waits_for_is_told(browser):
    assert browser.post("/v1/signals", json={"signal": "word", "data": 1}).status_code == 404


def test_a_flow_is_started_once_for_an_idempotency_key(shop, browser):
    key = {"Idempotency-Key": "k1"}
    first, again = (browser.post("/v1/flows/greet/invoke", json={"data": {"n": 1}}, headers=key) for _ in range(2))
    other = browser.post("/v1/flows/greet/invoke", json={"data": {"n": 2}}, headers=key)
    free = browser.post("/v1/flows/greet/invoke", json={})

    assert first.json["data"] == again.json["data"]
    assert (other.status_code, free.status_code) == (409, 200)
    assert len(shop.runs()) == 2


BAD: list[tuple[str, str, Any, int]] = [
    ("GET", "/v1/events/none", None, 404),
    ("GET", "/v1/events/none/runs", None, 404),
    ("GET", "/v1/events/%00", None, 404),
    ("GET", "/v1/runs/none", None, 404),
    ("GET", "/v1/nothing", None, 404),
    ("POST", "/v1/runs/none", None, 404),
    ("GET", "/v1/events?limit=0", None, 400),
    ("GET", "/v1/events?limit=101", None, 400),
    ("GET", "/v1/events?limit=x", None, 400),
    ("GET", "/v1/events?colour=red", None, 400),
    ("GET", "/v1/events?cursor=%00", None, 400),
    ("GET", "/v1/events?name=a&name=b", None, 400),
    ("GET", "/v1/events?received_after=yesterday", None, 400),
    ("GET", "/v1/events?received_after=2026-01-01T00:00:00", None, 400),
    ("DELETE", "/v1/runs/none", None, 404),
    ("POST", "/v1/cancellations", b"{", 400),
    ("POST", "/v1/cancellations", b"", 400),
    ("POST", "/v1/cancellations", b"[]", 400),
    ("POST", "/v1/cancellations", b'{"function_id": "none"}', 404),
    ("POST", "/v1/cancellations", b'{"function_id": 1}', 400),
    ("POST", "/v1/cancellations", b'{"function_id": "greet", "if": "1 +"}', 400),
    ("POST", "/v1/cancellations", b'{"function_id": "greet", "if": "event.x.map(a, event.y.map(b, a))"}', 400),
    ("POST", "/v1/cancellations", b'{"function_id": "greet", "started_after": "soon"}', 400),
    ("POST", "/v1/cancellations", b'{"function_id": "greet", "misspelt": "x"}', 400),
    ("POST", "/v1/signals", b'{"data": 1}', 400),
    ("POST", "/v1/signals", b'{"signal": "a\\u0000b"}', 400),
    ("POST", "/v1/flows/none/invoke", b"{}", 404),
    ("POST", "/v1/flows/greet/invoke", b'{"data": [1]}', 400),
    ("POST", "/v1/flows/greet/invoke", b'{"data": {"n": 1e999}}', 400),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_what_is_missing_or_wrong_has_its_status_and_changes_nothing(shop, browser, run_id, method, path, body, status):
    answer = browser.open(path, method=method, data=body)

    assert (answer.status_code, answer.json["status"]) == (status, status)
    assert "sqlite" not in answer.text
    assert [run.status for run in shop.runs()] == ["queued"]


def client(shop: Flows, **settings: Any) -> FlaskClient:
    shop._wiring.current.app.conf.update(settings)
    return create_app(shop).test_client()


def test_a_key_that_looks_may_not_act_and_no_key_may_nothing(shop, run_id):
    look = create_key(shop.runtime, "viewer", kind="api", role="look", who="test")
    act = create_key(shop.runtime, "operator", kind="api", role="act", who="test")
    browser = client(shop)

    for key, get, delete in (("", 401, 401), ("wrong", 401, 401), (look.secret, 200, 403), (act.secret, 200, 200)):
        assert browser.get(f"/v1/runs/{run_id}", headers=bearer(key)).status_code == get
        assert browser.delete(f"/v1/runs/{run_id}", headers=bearer(key)).status_code == delete
    assert browser.get(f"/v1/runs/{run_id}").headers["WWW-Authenticate"] == "Bearer"


def test_an_event_key_does_not_open_the_rest_api_nor_an_api_key_the_event_api(shop):
    send = create_key(shop.runtime, "sender", kind="event", who="test")
    look = create_key(shop.runtime, "viewer", kind="api", role="look", who="test")
    browser = client(shop)

    assert browser.get("/v1/events", headers=bearer(send.secret)).status_code == 401
    assert browser.post(f"/e/{look.secret}", json={"name": "a/b"}).status_code == 401
    assert browser.post(f"/e/{send.secret}", json={"name": "a/b"}).status_code == 200


def test_a_revoked_key_opens_nothing_in_a_new_process(shop):
    key = create_key(shop.runtime, "viewer", kind="api", who="test")
    assert client(shop).get("/v1/events", headers=bearer(key.secret)).status_code == 200
    revoke_key(shop.runtime, key.id, who="test")

    assert client(shop).get("/v1/events", headers=bearer(key.secret)).status_code == 401


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
        {"environ_overrides": {"SERVER_NAME": "0.0.0.0"}},
        {"headers": {"X-Forwarded-For": "192.0.2.7"}},
        {"headers": {"Origin": "https://evil.example"}},
    ],
)
def test_without_keys_only_this_host_may_look(browser, elsewhere):
    assert browser.get("/v1/events", **elsewhere).status_code == 401
    assert browser.get("/v1/openapi.json", **elsewhere).status_code == 401


def test_every_act_is_written_down_with_what_came_of_it(shop, run_id):
    key = create_key(shop.runtime, "ops", kind="api", role="act", who="test")
    browser = client(shop)
    browser.delete(f"/v1/runs/{run_id}", headers=bearer(key.secret))
    browser.post("/v1/cancellations", json={"function_id": "none", "if": "true"}, headers=bearer(key.secret))
    browser.get("/v1/events", headers=bearer(key.secret))

    entries = audit(shop.runtime, who="key ops").items
    assert [(entry.action, entry.subject, entry.outcome) for entry in entries] == [
        ("cancel_runs", "/v1/cancellations function_id=none if=true", "refused: 404"),
        ("cancel_run", f"/v1/runs/{run_id}", "done"),
    ]
    assert {entry.via for entry in entries} == {"rest"}


def test_a_store_that_does_not_answer_is_503_without_its_words(shop, browser, monkeypatch, run_id):
    def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable("The store postgresql://user@secret-host/db does not answer (SELECT ...)")

    browser.get("/v1/events")
    monkeypatch.setattr(type(shop.runtime.store), "transact", unavailable)
    monkeypatch.setattr("celeryflows.store.reports.events.read", unavailable)
    monkeypatch.setattr("celeryflows.store.reports.received.read", unavailable)
    for method, path in (("GET", "/v1/events"), ("GET", "/v1/events/x"), ("DELETE", f"/v1/runs/{run_id}")):
        answer = browser.open(path, method=method)
        assert answer.status_code == 503
        assert "secret-host" not in answer.text
