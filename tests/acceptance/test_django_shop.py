"""The Django shop of the examples: its own tests, and its views, command and flow over a real server and worker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shops import Shop, open_shop, run_in
from tests.servers import free_port
from tests.waiting import eventually
from tests.workers import ROOT

FOLDER = ROOT / "examples" / "django_shop"


def manage(*words: str, env: dict[str, str]) -> str:
    return run_in(FOLDER, "manage.py", *words, env=env)


@pytest.fixture(scope="module")
def shop(
    redis_server: Any, broker_databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """Migrated, with three teas in stock, on an SQLite file."""
    folder = tmp_path_factory.mktemp("django_shop")
    number = next(broker_databases)
    redis_server.flush(number)
    database, port = folder / "shop.sqlite3", free_port()
    env = {"CELERY_BROKER_URL": redis_server.url(number), "SHOP_SQLITE": str(database)}
    manage("migrate", "--verbosity", "0", env=env)
    assert "has schema" in manage("flows", "db", "upgrade", env=env)
    serve = ["manage.py", "runserver", "--noreload", str(port)]
    made = open_shop(FOLDER, "shop", serve, port=port, env=env, store=f"sqlite:///{database}", log=folder / "web.log")
    with made as shop:
        shop.rows("INSERT INTO orders_stock (item, left) VALUES ('tea', 3)")
        yield shop


def state(shop: Shop, order: int) -> str:
    return str(shop.rows("SELECT state FROM orders_order WHERE id = :id", id=order)[0][0])


def test_its_own_tests_pass() -> None:
    assert "OK" in manage("test", env={})


def test_an_order_that_is_paid_is_sent_and_taken_from_the_stock_once(shop: Shop) -> None:
    status, placed = shop.post("orders/", customer="ann@example.com", item="tea")
    assert status == 201
    for _ in range(2):
        assert shop.post("webhooks/payments", id="pay_1", order=placed["order"])[0] == 202

    eventually(lambda: state(shop, placed["order"]) == "sent", within=30)
    assert shop.rows("SELECT left FROM orders_stock") == [(2,)]
    eventually(lambda: "Your parcel is on its way" in shop.worker.log, within=30)
    steps = shop.rows("SELECT key FROM flows_steps WHERE run_id = :id ORDER BY began", id=placed["run"])
    assert [key for (key,) in steps] == ["payment", "reserve", "letter"]


def test_an_order_that_is_rolled_back_starts_no_run(shop: Shop) -> None:
    before = shop.rows("SELECT count(*) FROM flows_runs")

    status, answer = shop.post("orders/", customer="ann@example.com", item="gold")

    assert (status, answer) == (409, {"error": "no gold left"})
    assert shop.rows("SELECT id FROM orders_order WHERE item = 'gold'") == []
    assert shop.rows("SELECT count(*) FROM flows_calls") == [(0,)]
    assert shop.rows("SELECT count(*) FROM flows_runs") == before


def test_an_async_view_cancels_a_run(shop: Shop) -> None:
    _, placed = shop.post("orders/", customer="bob@example.com", item="tea")

    assert shop.post(f"orders/{placed['order']}/cancel")[0] == 202

    status = "SELECT status FROM flows_runs WHERE id = :id"
    eventually(lambda: shop.rows(status, id=placed["run"]) == [("cancelled",)], within=30)


def test_the_management_command_is_the_command_line_of_the_shop(shop: Shop, tmp_path: Path) -> None:
    told = manage("flows", "doctor", "--json", "--settings=shop.settings", env=shop.env)

    findings = {one["subject"]: one for one in json.loads(told)["findings"]}
    assert (findings["transactions"]["level"], findings["workers"]["level"]) == ("ok", "ok")
    assert findings["transactions"]["text"] == "what is sent inside atomic() of 'default' belongs to it"
    assert findings["flows"]["text"] == "1 declared by this app"
