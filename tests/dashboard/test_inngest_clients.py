"""The official Inngest clients of Python and JavaScript, from the registries, send to a real server of ours."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from celeryflows.store.database import Store
from tests.dashboard.deaf_proxy import deaf_proxy
from tests.dashboard.npm import npm_package, run_module
from tests.dashboard.served import Served, served

KEY = "an-event-key-of-the-settings"
PYTHON = """
import json, sys, inngest
url, key, events = sys.argv[1:]
client = inngest.Inngest(app_id="shop", event_api_base_url=url, event_key=key, is_production=True)
sent = [inngest.Event(**event) for event in json.loads(events)]
try:
    print(json.dumps(client.send_sync(sent[0] if len(sent) == 1 else sent)))
except Exception as error:
    print(json.dumps({"error": str(error)}))
"""
JAVASCRIPT = """
import { Inngest } from "inngest";
const [url, key, events] = process.argv.slice(1);
const client = new Inngest({ id: "shop", baseUrl: url, eventKey: key, isDev: false });
try {
  console.log(JSON.stringify((await client.send(JSON.parse(events))).ids));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message ?? error) }));
}
"""
Send = Callable[..., list[str]]
Events = Sequence[dict[str, Any]]


class Refused(Exception):
    """What a client says when the server refuses."""


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('doors') / 'store.sqlite3'}"


@pytest.fixture(scope="module")
def shop(database: str) -> Iterator[Served]:
    settings = {"broker_url": "memory://", "flows_store_url": database, "flows_event_keys": [KEY]}
    with served("tests.dashboard.apps.shop:web", settings) as server:
        yield server


@pytest.fixture(scope="module")
def store(database: str, shop: Served) -> Iterator[Store]:
    found = Store(database)
    yield found
    found.dispose()


@pytest.fixture(params=["python", "javascript"])
def send(request: pytest.FixtureRequest) -> Send:
    """Sends by a client in a process of its own."""
    folder = npm_package("inngest", "4.24.0") if request.param == "javascript" else None

    def sent(url: str, events: Events, key: str = KEY) -> list[str]:
        words = (url, key, json.dumps(events))
        said = json.loads(run_python(PYTHON, *words) if folder is None else run_module(folder, JAVASCRIPT, *words))
        if isinstance(said, dict):
            raise Refused(said["error"])
        return said

    return sent


def run_python(script: str, *words: str) -> str:
    """What a Python script prints."""
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def stored(store: Store, ids: Sequence[str]) -> list[tuple[Any, ...]]:
    with store.connection() as connection:
        found = {event.id: event for event in connection.events.many(ids).values()}
    return [(found[i].name, found[i].data, found[i].ext_id) for i in ids]


def count(store: Store, name: str) -> tuple[int, int]:
    """Events of a name, and the runs that they started."""
    with store.connection() as connection:
        ((events, runs),) = connection.execute(
            "SELECT count(DISTINCT e.id), count(r.id) FROM flows_events e "
            "LEFT JOIN flows_runs r ON r.event_id = e.id WHERE e.name = :name",
            name=name,
        )
    return events, runs


def test_one_event_is_stored_and_its_id_comes_back(send: Send, shop: Served, store: Store) -> None:
    ids = send(shop.url, [{"name": "user/came", "data": {"n": 1.5, "text": "ä"}, "id": "own-1"}])

    assert stored(store, ids) == [("user/came", {"n": 1.5, "text": "ä"}, "own-1")]


def test_a_list_keeps_its_order(send: Send, shop: Served, store: Store) -> None:
    ids = send(shop.url, [{"name": "user/came", "data": {"n": n}} for n in range(100)])

    assert [data["n"] for _, data, _ in stored(store, ids)] == list(range(100))
    assert ids == sorted(ids)


def test_a_client_that_lost_the_answer_sends_again_and_nothing_starts_twice(
    send: Send, shop: Served, store: Store
) -> None:
    before = count(store, "order/placed")
    with deaf_proxy(shop.url) as proxy:
        ids = send(proxy.url, [{"name": "order/placed", "data": {"id": n}} for n in range(3)])

    assert proxy.statuses == [200, 200]
    assert [data["id"] for _, data, _ in stored(store, ids)] == [0, 1, 2]
    events, runs = count(store, "order/placed")
    assert (events - before[0], runs - before[1]) == (3, 3)


def test_a_refusal_reaches_the_caller_in_words(send: Send, shop: Served, store: Store) -> None:
    with pytest.raises(Refused, match="reserved"):
        send(shop.url, [{"name": "user/fine", "data": {}}, {"name": "flows/own", "data": {}}])
    assert count(store, "user/fine") == (0, 0)
