"""The Flask shop of the examples: its own tests, and its views, command and flow over a real server and worker."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.shops import Shop, open_shop, run_in
from tests.servers import Postgres, free_port
from tests.waiting import eventually
from tests.workers import ROOT

FOLDER = ROOT / "examples" / "flask_shop"


def flask(*words: str, env: dict[str, str]) -> str:
    return run_in(FOLDER, "-m", "flask", "--app", "shop", *words, env=env)


@pytest.fixture(scope="module")
def shop(
    redis_server: Any,
    broker_databases: Iterator[int],
    postgres_server: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """With three teas in stock, on PostgreSQL."""
    number, port = next(broker_databases), free_port()
    redis_server.flush(number)
    name = postgres_server.create_database()
    url = postgres_server.url(name)
    env = {"CELERY_BROKER_URL": redis_server.url(number), "SHOP_DATABASE": url}
    flask("init-db", env=env)
    assert "has schema" in flask("flows", "db", "upgrade", env=env)
    serve = ["-m", "flask", "--app", "shop", "run", "--port", str(port)]
    log = tmp_path_factory.mktemp("flask_shop") / "web.log"
    with open_shop(FOLDER, "worker", serve, port=port, env=env, store=url, log=log) as shop:
        shop.rows("INSERT INTO stock (item, \"left\") VALUES ('tea', 3)")
        yield shop
    postgres_server.drop_database(name)


def state(shop: Shop, order: int) -> str:
    return str(shop.rows("SELECT state FROM orders WHERE id = :id", id=order)[0][0])


def test_its_own_tests_pass() -> None:
    assert " passed" in run_in(FOLDER, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", env={})


def test_an_order_that_is_paid_is_sent_and_taken_from_the_stock_once(shop: Shop) -> None:
    status, placed = shop.post("orders/", customer="ann@example.com", item="tea")
    assert status == 201
    for _ in range(2):
        assert shop.post("webhooks/payments", id="pay_1", order=placed["order"])[0] == 202

    eventually(lambda: state(shop, placed["order"]) == "sent", within=30)
    assert shop.rows('SELECT "left" FROM stock') == [(2,)]
    eventually(lambda: "letter to ann@example.com: Your parcel is on its way" in shop.worker.log, within=30)


def test_an_order_that_is_rolled_back_leaves_no_event(shop: Shop) -> None:
    before = shop.rows("SELECT count(*) FROM flows_events")

    status, answer = shop.post("orders/", customer="ann@example.com", item="gold")

    assert (status, answer) == (409, {"error": "no gold left"})
    assert shop.rows("SELECT count(*) FROM flows_events") == before


def test_flask_has_the_command_line_of_the_shop(shop: Shop) -> None:
    _, placed = shop.post("orders/", customer="bob@example.com", item="tea")
    assert shop.post(f"orders/{placed['order']}/cancel")[0] == 202
    eventually(lambda: shop.rows("SELECT id FROM flows_runs WHERE status = 'cancelled'"), within=30)

    told = flask("flows", "runs", "--status", "cancelled", "--json", env=shop.env)
    listed, _ = json.JSONDecoder().raw_decode(told)
    assert [run["flow"] for run in listed["runs"]] == ["fulfil"]
