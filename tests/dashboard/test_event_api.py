"""`POST /e/<key>`: what is taken, what is refused and in which words, as Inngest's clients expect it."""

import gzip
import json
import time
from base64 import b64encode
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from celeryflows import Flows, StoreUnavailable
from flask_dashboard import create_app

SEED = "x-inngest-event-id-seed"


def post(browser: FlaskClient, body: Any, key: str = "any", **options: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return browser.post(f"/e/{key}", data=data, **options)


def names(shop: Flows) -> list[str]:
    with shop.runtime.store.connection() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM flows_events ORDER BY id")]


def with_settings(shop: Flows, **settings: Any) -> FlaskClient:
    shop._wiring.current.app.conf.update(settings)
    return create_app(shop).test_client()


def test_an_event_or_a_list_is_answered_by_ids_in_order(shop, browser):
    one = post(browser, {"name": "a/b", "data": {"n": 1}})
    many = post(browser, [{"name": "c/d"}, {"name": "e/f"}])

    assert (one.status_code, one.json["status"]) == (200, 200)
    assert many.json["ids"] == sorted(many.json["ids"])
    assert all(len(i) == 26 for i in one.json["ids"] + many.json["ids"])
    assert names(shop) == ["a/b", "c/d", "e/f"]
    assert post(browser, []).json == {"ids": [], "status": 200}


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_the_content_type_is_not_looked_at(shop, browser, kind):
    assert post(browser, {"name": "a/b"}, content_type=kind).status_code == 200


@pytest.mark.parametrize(
    "event",
    [
        {"name": "a/b", "data": None},
        {"name": "a/b"},
        {"name": "a/b", "unknown": [1], "user": {"id": 1}, "meta": {}},
        {"name": "a/b", "ts": 4_000_000_000_000},
        {"name": "a/b", "id": "", "ts": 0, "v": None},
        {"name": "a/b", "ts": 1.7e12},
    ],
)
def test_what_clients_leave_out_or_add_is_taken(shop, browser, event):
    assert post(browser, event).status_code == 200
    assert names(shop) == ["a/b"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{broken", "not valid JSON"),
        (b'"text"', "object"),
        (b'{"name": "a/b"}\n{"name": "a/b"}', "not valid JSON"),
        (gzip.compress(b'{"name": "a/b"}', mtime=0), "UTF-8"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--', "not valid JSON"),
        ({"name": "a/b", "data": [1]}, "data must be an object, got a list"),
        ({"data": {}}, "event name is empty"),
        ({"name": "", "data": {}}, "event name is empty"),
        ({"name": 7}, "must be text"),
        ({"name": "flows/run.failed"}, "reserved"),
        ({"name": "a/b", "ts": 1}, "before 1980"),
        ({"name": "a/b", "ts": 5_000_000_000_000}, "after 2100"),
        ({"name": "a/b", "ts": True}, "true or false"),
        ({"name": "a/b", "data": {"x": "y" * 600_000}}, "Event is over the max size: Max 524288 bytes / Size 600008"),
        ([{"name": "a/b"}] * 5_001, "at most 5,000"),
        (b'{"name": "a/b", "data": {"n": NaN}}', "NaN"),
        (b'{"name": "a/b", "name": "c/d"}', "twice"),
        (b'{"name": "a/b", "data": ' + b'{"d":' * 5000 + b"1" + b"}" * 5000 + b"}", "deeper"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_in_words(shop, browser, body, words):
    answer = post(browser, body)

    assert (answer.status_code, answer.json["status"], answer.json["ids"]) == (400, 400, [])
    assert words in answer.json["error"]
    assert names(shop) == []


def test_one_bad_event_refuses_the_whole_list_and_is_named_by_its_index(shop, browser):
    answer = post(browser, [{"name": "a/b"}, {"name": "a/b", "ts": 3}, {"name": "c/d"}])

    assert answer.status_code == 400
    assert answer.json["error"].startswith("event 1: ")
    assert names(shop) == []


def test_the_same_id_again_is_stored_and_starts_nothing(shop, browser):
    first, second = (post(browser, {"name": "user/came", "id": "own"}).json["ids"] for _ in range(2))

    assert first != second
    assert names(shop) == ["user/came"] * 2
    assert [run.status for run in shop.runs()] == ["skipped", "queued"]


def seed(shift: int = 0, chance: bytes = b"0123456789") -> str:
    return f"{int(time.time() * 1000) + shift},{b64encode(chance).decode()}"


def test_a_body_that_is_sent_again_under_its_seed_has_its_ids_and_starts_nothing_twice(shop, browser):
    header, events = {SEED: seed()}, [{"name": "user/came", "data": {"n": n}} for n in range(3)]
    first, again = (post(browser, events, headers=header).json for _ in range(2))

    assert first == again
    assert names(shop) == ["user/came"] * 3
    assert len(shop.runs()) == 3
    assert first["ids"][0][:10] == again["ids"][0][:10]


def test_other_events_under_the_same_seed_are_not_lost(shop, browser):
    header = {SEED: seed()}
    first, second = (post(browser, {"name": "user/came", "data": {"n": n}}, headers=header).json for n in range(2))

    assert first["ids"] != second["ids"]
    assert len(names(shop)) == 2


def test_a_seed_that_cannot_be_is_ignored(shop, browser):
    far, short = seed(shift=-(10**9)), seed(chance=b"short")
    for bad in ("", "x", "1,", "12,???", f"{10**18},MDEyMzQ1Njc4OQ==", far, short):
        first, second = (post(browser, {"name": "a/b"}, headers={SEED: bad}) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json["ids"] != second.json["ids"]


def test_other_methods_are_refused(browser):
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = browser.open("/e/any", method=method)
        assert (answer.status_code, answer.json["status"]) == (405, 405)
        assert answer.headers["Allow"] == "POST, OPTIONS"


def test_a_key_that_is_set_must_be_shown(shop):
    browser = with_settings(shop, flows_event_keys=["right-one", "right-two"])

    assert post(browser, {"name": "a/b"}, key="right-two").status_code == 200
    for wrong in ("wrong", "right-on", "", "NO_EVENT_KEY_SET", "\u00e9"):
        answer = post(browser, {"name": "a/b"}, key=wrong)
        assert answer.status_code == 401
        assert answer.json == {"status": 401, "error": "Event key not found"}
    assert post(browser, {"name": "a/b"}, key="right-one/x").status_code == 404
    assert names(shop) == ["a/b"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
        {"environ_overrides": {"SERVER_NAME": "0.0.0.0"}},
        {"headers": {"X-Forwarded-For": "192.0.2.7"}},
        {"headers": {"Host": "rebound.example"}},
        {"headers": {"Origin": "https://evil.example"}},
        {"headers": {"Sec-Fetch-Site": "cross-site"}},
    ],
)
def test_without_keys_only_this_host_may_send(shop, browser, elsewhere):
    assert post(browser, {"name": "a/b"}, **elsewhere).status_code == 401
    assert names(shop) == []


def test_a_page_of_loopback_may_send_and_its_preflight_is_echoed(browser):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = browser.options("/e/any", headers={"Origin": "http://localhost:3000", **asked})
    sent = post(browser, {"name": "a/b"}, headers={"Origin": "http://localhost:3000"})

    assert preflight.status_code == sent.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    assert preflight.headers["Access-Control-Allow-Headers"] == "content-type"
    assert sent.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


def test_origins_elsewhere_are_echoed_when_they_are_named(shop, browser):
    origin = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert "Access-Control-Allow-Origin" not in browser.options("/e/any", headers=origin).headers

    named = with_settings(shop, flows_cors_origins=["https://shop.example"], flows_event_keys=["k"])
    answer = named.options("/e/k", headers=origin, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://shop.example")
    other = named.options("/e/k", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_body_past_the_bound_is_refused_before_it_is_read(shop):
    browser = with_settings(shop, flows_max_body_bytes=1000)

    assert post(browser, {"name": "a/b", "data": {"x": "y" * 2000}}).status_code == 413
    packed = gzip.compress(json.dumps({"name": "a/b", "data": {"x": "y" * 100_000}}).encode())
    assert len(packed) < 1000
    assert post(browser, packed, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert names(shop) == []


def test_gzip_that_is_announced_is_unpacked(shop, browser):
    packed = gzip.compress(b'{"name": "a/b"}')

    assert post(browser, packed, headers={"Content-Encoding": "gzip"}).status_code == 200
    for broken in (packed[:-4], b"none"):
        assert post(browser, broken, headers={"Content-Encoding": "gzip"}).status_code == 400
    assert names(shop) == ["a/b"]


def test_too_many_requests_are_told_when_to_come_back(shop):
    browser = with_settings(shop, flows_rates={"events": "3/minute", "refused": "2/minute"}, flows_event_keys=["k"])
    answers = [post(browser, {"name": "a/b"}, key="k") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].json["ids"] == []


def test_guessing_keys_is_slow_and_keeps_nobody_else_out(shop):
    browser = with_settings(shop, flows_rates={"refused": "2/minute"}, flows_event_keys=["k"])

    assert [post(browser, {"name": "a/b"}, key="x").status_code for _ in range(3)] == [401, 401, 429]
    assert post(browser, {"name": "a/b"}, key="k").status_code == 200


def test_a_store_that_does_not_answer_is_told_as_503_and_nothing_of_it_leaks(shop, browser, monkeypatch):
    def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable("The store postgresql://user@secret-host/db does not answer (SELECT ...)")

    assert post(browser, {"name": "a/b"}).status_code == 200
    monkeypatch.setattr(type(shop.runtime.store), "transact", unavailable)
    answer = post(browser, {"name": "a/b"})
    assert answer.status_code == 503
    assert "secret-host" not in answer.text
    assert "send it again" in answer.json["error"]


def test_an_error_of_our_own_tells_the_client_nothing(shop, browser, monkeypatch):
    monkeypatch.setattr(type(shop.runtime.store), "transact", lambda *_: 1 / 0)
    answer = post(browser, {"name": "a/b"})

    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "Traceback" not in answer.text
