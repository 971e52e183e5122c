"""Webhooks: who signed is believed, once; what it sends becomes events as the settings tell."""

import hmac
import json
import os
import re
import time
from base64 import b64encode
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from celeryflows import ConfigurationError, Flows
from celeryflows.console.audit import counts
from celeryflows.console.doors import Hook
from celeryflows.settings.doors import read_doors
from flask_dashboard import create_app
from flask_dashboard.signatures import is_signed
from tests.workers import ROOT

SECRET = "whsec-of-the-source"
HOOKS: dict[str, dict[str, Any]] = {
    "stripe": {"signature": "stripe", "secret": ["the-old-one", SECRET]},
    "github": {"signature": "github", "secret": SECRET},
    "slack": {"signature": "slack", "secret": SECRET},
    "shop": {
        "signature": "hmac",
        "secret": SECRET,
        "header": "X-Shop-Hmac",
        "encoding": "base64",
        "transform": "body.kind == 'test' ? null : "
        "body.items.map(i, {'name': 'shop/' + body.kind, 'data': i, 'id': body.id})",
    },
}


def signed(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


def stripe(body: bytes, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    moment = int(time.time() if at is None else at)
    return {"Stripe-Signature": f"t={moment},v1={'0' * 64},v1={signed(f'{moment}.'.encode() + body, secret)},v0=old"}


def github(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = signed(body, secret)
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1"}


def slack(body: bytes, at: float | None = None) -> dict[str, str]:
    moment = str(int(time.time() if at is None else at))
    digest = signed(f"v0:{moment}:".encode() + body)
    return {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": f"v0={digest}"}


def shop_hmac(body: bytes) -> dict[str, str]:
    return {"X-Shop-Hmac": b64encode(hmac.digest(SECRET.encode(), body, "sha256")).decode()}


@pytest.fixture
def hooks(shop: Flows) -> FlaskClient:
    shop._wiring.current.app.conf.flows_hooks = deepcopy(HOOKS)
    return create_app(shop).test_client()


def call(hooks: FlaskClient, source: str, body: bytes, headers: dict[str, str], **options: Any) -> TestResponse:
    # From elsewhere, as sources do.
    return hooks.post(
        f"/hooks/{source}", data=body, headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.7"}, **options
    )


def stored(shop: Flows) -> list[tuple[Any, ...]]:
    with shop.runtime.store.connection() as connection:
        rows = connection.execute("SELECT name, data, ext_id FROM flows_events ORDER BY id")
    return [(name, json.loads(data), own) for name, data, own in rows]


def test_a_call_of_each_source_becomes_an_event_under_the_id_of_its_delivery(shop, hooks):
    paid = b'{"id": "evt_1", "type": "charge.succeeded", "data": {"object": {"amount": 5}}}'
    said = b'{"type": "event_callback", "event_id": "Ev1", "event": {"type": "message"}}'
    for source, body, headers in (
        ("stripe", paid, stripe(paid)),
        ("github", b'{"ref": "main"}', github(b'{"ref": "main"}')),
        ("slack", said, slack(said)),
    ):
        answer = call(hooks, source, body, headers)
        assert (answer.status_code, len(answer.json["ids"])) == (200, 1), answer.text

    assert stored(shop) == [
        ("stripe/charge.succeeded", json.loads(paid), "stripe:evt_1"),
        ("github/push", {"ref": "main"}, "github:d-1"),
        ("slack/message", json.loads(said), "slack:Ev1"),
    ]


def test_a_delivery_that_comes_again_starts_nothing(shop, hooks):
    shop._wiring.current.app.conf.flows_hooks["stripe"] = {
        **HOOKS["stripe"],
        "transform": "{'name': 'user/came', 'data': body, 'id': body.id}",
    }
    browser, body = create_app(shop).test_client(), b'{"id": "evt_1", "type": "x.y"}'
    assert [call(browser, "stripe", body, stripe(body)).status_code for _ in range(3)] == [200] * 3

    assert sorted(run.status for run in shop.runs()) == ["queued", "skipped", "skipped"]


def test_a_transform_makes_several_events_or_none(shop, hooks):
    body = b'{"id": "b1", "kind": "sold", "items": [{"sku": 1}, {"sku": 2}]}'
    assert len(call(hooks, "shop", body, shop_hmac(body)).json["ids"]) == 2
    test = b'{"kind": "test"}'
    assert call(hooks, "shop", test, shop_hmac(test)).json == {"ids": [], "status": 200}

    assert stored(shop) == [("shop/sold", {"sku": 1}, "shop:b1:0"), ("shop/sold", {"sku": 2}, "shop:b1:1")]


def test_slack_is_told_its_challenge_when_it_signed_it(hooks):
    body = b'{"type": "url_verification", "challenge": "abc"}'

    assert call(hooks, "slack", body, slack(body)).json == {"challenge": "abc"}
    assert call(hooks, "slack", body, {}).status_code == 401


def test_a_form_is_read_as_its_fields(shop, hooks):
    body = b"payload=%7B%22event_id%22%3A%22Ev2%22%2C%22event%22%3A%7B%22type%22%3A%22click%22%7D%7D"
    shop._wiring.current.app.conf.flows_hooks["slack"]["transform"] = (
        "{'name': 'slack/' + body.payload.event.type, 'data': body.payload, 'id': body.payload.event_id}"
    )
    browser = create_app(shop).test_client()
    answer = call(browser, "slack", body, slack(body), content_type="application/x-www-form-urlencoded")

    assert answer.status_code == 200, answer.text
    assert [(name, own) for name, _, own in stored(shop)] == [("slack/click", "slack:Ev2")]


BODY = b'{"id": "evt_1", "type": "x.y"}'
BAD = [
    ("stripe", {}),
    ("stripe", {"Stripe-Signature": "nonsense"}),
    ("stripe", {"Stripe-Signature": f"t=,v1={signed(b'.' + BODY)}"}),
    ("stripe", stripe(BODY, secret="another")),
    ("stripe", stripe(BODY + b" ")),
    ("stripe", stripe(BODY, at=0)),
    ("stripe", stripe(BODY, at=99_999_999_999)),
    ("github", {"X-Hub-Signature-256": ""}),
    ("github", {"X-Hub-Signature-256": signed(BODY)}),
    ("github", github(BODY, secret="another")),
    ("slack", slack(BODY, at=1_000_000_000)),
    ("slack", {**slack(BODY), "X-Slack-Request-Timestamp": "1"}),
    ("shop", {"X-Shop-Hmac": "\u00e9"}),
    ("shop", {"X-Shop-Hmac": signed(BODY)}),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_signature_is_refused_and_counted(shop, hooks, number):
    source, headers = BAD[number]
    answer = call(hooks, source, BODY, headers)

    assert (answer.status_code, answer.json["status"]) == (401, 401)
    assert SECRET not in answer.text
    assert stored(shop) == []
    assert counts(shop.runtime) == {f"hook refused {source}": 1}


def test_refusals_of_one_address_are_bounded_and_good_calls_pass(shop, hooks):
    shop._wiring.current.app.conf.flows_rates = {"refused": "2/minute"}
    browser = create_app(shop).test_client()
    assert [call(browser, "stripe", BODY, {}).status_code for _ in range(4)] == [401, 401, 429, 429]

    assert counts(shop.runtime) == {"hook refused stripe": 2}
    assert call(browser, "stripe", BODY, stripe(BODY)).status_code == 200


@pytest.mark.parametrize(
    ("source", "body", "status", "words"),
    [
        ("none", BODY, 404, "no hook"),
        ("stripe", b'{"id": "evt_1"}', 400, "does not fit this call"),
        ("stripe", b"{broken", 400, "not valid JSON"),
        ("stripe", b"", 400, "not valid JSON"),
        ("stripe", b'{"id": true, "type": "x"}', 400, "no text"),
    ],
)
def test_what_cannot_be_an_event_is_refused_in_words(shop, hooks, source, body, status, words):
    answer = call(hooks, source, body, stripe(body))

    assert (answer.status_code, answer.json["status"]) == (status, status)
    assert words in answer.json["error"]
    assert stored(shop) == []


def test_other_methods_are_refused(hooks):
    assert [hooks.open("/hooks/stripe", method=method).status_code for method in ("GET", "PUT", "DELETE")] == [405] * 3


def of(scheme: str, **more: Any) -> Hook:
    entry = {"signature": scheme, "transform": "body", **more}
    return read_doors({"hooks": {"it": entry}}).hooks["it"]


def test_the_examples_of_githubs_and_slacks_own_pages_are_signed():
    hook = of("github", secret="It's a Secret to Everybody")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert is_signed(hook, {"x-hub-signature-256": f"sha256={digest}"}, b"Hello, World!", 0)

    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    hook = of("slack", secret="8f742231b10e8888abcd99yyyzzz85a5")
    assert is_signed(hook, headers, body, 1_531_420_618_000_000)
    assert not is_signed(hook, headers, body, 1_531_420_618_000_000 + 301_000_000)


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_a_plain_hmac_is_written_as_the_settings_tell(algorithm, encoding):
    hook = of("hmac", secret="s", algorithm=algorithm, encoding=encoding, prefix="v=", header="X-Sig")
    digest = hmac.digest(b"s", b"body", algorithm)
    text = "v=" + (digest.hex() if encoding == "hex" else b64encode(digest).decode())

    assert is_signed(hook, {"x-sig": text}, b"body", 0)
    assert not is_signed(hook, {"x-sig": text[2:]}, b"body", 0)
    assert not is_signed(hook, {"x-sig": text}, b"bodx", 0)


def test_a_moment_that_is_signed_too_may_not_be_old():
    hook = of("hmac", secret="s", timestamp_header="X-At", tolerance="10s")
    headers = {"x-at": "100", "x-signature": hmac.new(b"s", b"100.body", "sha256").hexdigest()}

    assert is_signed(hook, headers, b"body", 105_000_000)
    assert not is_signed(hook, headers, b"body", 111_000_000)
    assert not is_signed(hook, {**headers, "x-at": "101"}, b"body", 105_000_000)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"signature": "github"}, "not signed is not taken"),
        ({"signature": "github", "secret": ""}, "environment variable"),
        ({"signature": "github", "secret": None}, "environment variable|must be a text"),
        ({"signature": "gitlab", "secret": "x"}, "one of stripe, github, slack, hmac"),
        ({"signature": "hmac", "secret": "x"}, "transform'\\] is missing"),
        ({"signature": "github", "secret": "x", "header": "X"}, "'hmac' alone"),
        ({"signature": "github", "secret": "x", "transfrom": "body"}, "Did you mean 'transform'"),
        ({"signature": "github", "secret": "x", "transform": "body +"}, "flows_hooks\\['it'\\]\\['transform'\\]"),
        ({"signature": "github", "secret": "x", "transform": "event.data"}, "event"),
        ({"signature": "stripe", "secret": "x", "tolerance": 300}, "tolerance"),
        ({"signature": "hmac", "secret": "x", "transform": "body", "algorithm": "md5"}, "sha256"),
        ("secret-text", "mapping"),
    ],
)
def test_a_hook_that_cannot_work_is_refused_at_the_start_and_no_secret_is_told(entry, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        read_doors({"hooks": {"it": entry}})
    assert "secret-text" not in str(refused.value)


def test_a_hook_never_shows_its_secrets():
    assert SECRET not in repr(read_doors({"hooks": HOOKS}))


def test_the_settings_on_the_page_can_be_read(monkeypatch):
    page = (ROOT / "docs" / "http.md").read_text()
    app = SimpleNamespace(conf=SimpleNamespace())
    for name in ("STRIPE_SECRET", "GITHUB_SECRET", "SHOP_SECRET"):
        monkeypatch.setenv(name, SECRET)
    for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
        exec(
            compile(block.replace("scrypt:32768:8:1$...", f"scrypt:32768:8:1$s${'0' * 128}"), "http.md", "exec"),
            {"app": app, "os": os},
        )
    found = read_doors({name.removeprefix("flows_"): value for name, value in vars(app.conf).items()})

    assert set(found.hooks) == {"stripe", "github", "shop"}
    assert {user.role for user in found.users.values()} == {"look", "act"}
    assert found.proxy_login is not None
