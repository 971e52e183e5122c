"""The Django shop of the examples: its own tests, and its views, commands and flows over a real server and worker."""

import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import LEASH, free_port
from tests.waiting import eventually
from tests.workers import ROOT, Worker, running_worker

FOLDER = ROOT / "examples" / "django_shop"


def manage(*words: str, env: dict[str, str]) -> str:
    """`manage.py` in the shop's folder; what it printed."""
    command = [sys.executable, "-W", "error", "manage.py", *words]
    done = subprocess.run(command, cwd=FOLDER, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@dataclass
class Shop:
    """A shop with its server and worker at work."""

    url: str
    env: dict[str, str]
    database: Path
    worker: Worker

    def post(self, path: str, **data: Any) -> tuple[int, dict[str, Any]]:
        """POST JSON; the status and the answer."""
        body = json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def rows(self, sql: str, *params: Any) -> list[Any]:
        """What stands in the shop's database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql, params).fetchall()

    def state(self, order: int) -> str:
        """Where an order stands."""
        return str(self.rows("SELECT state FROM orders_order WHERE id = ?", order)[0][0])


@pytest.fixture(scope="module")
def shop(
    redis_server: Any, broker_databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """Migrated, with three teas in stock."""
    folder = tmp_path_factory.mktemp("django_shop")
    number = next(broker_databases)
    redis_server.flush(number)
    database, port = folder / "shop.sqlite3", free_port()
    env = {
        "CELERY_BROKER_URL": redis_server.url(number),
        "SHOP_SQLITE": str(database),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(FOLDER)]),
    }
    manage("migrate", "--verbosity", "0", env=env)
    assert "has schema" in manage("flows", "db", "upgrade", env=env)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO orders_stock (item, left) VALUES ('tea', 3)")
        connection.commit()
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), "", "9"]
    serve = [sys.executable, "manage.py", "runserver", "--noreload", str(port)]
    log = folder / "web.log"
    with running_worker("shop", "-c", "1", env=env) as worker, log.open("wb") as output:
        server = subprocess.Popen([*leash, *serve], cwd=FOLDER, env={**os.environ, **env}, stdout=output, stderr=output)
        try:
            eventually(lambda: "Quit the server" in log.read_text(), within=30)
            yield Shop(f"http://127.0.0.1:{port}/", env, database, worker)
        finally:
            server.kill()
            server.wait(10)


def test_its_own_tests_pass() -> None:
    assert "OK" in manage("test", env={"PYTHONPATH": str(ROOT)})


def test_an_order_that_is_paid_is_sent_and_taken_from_the_stock_once(shop: Shop) -> None:
    status, placed = shop.post("orders/", customer="ann@example.com", item="tea")
    assert status == 201
    for _ in range(2):
        assert shop.post("webhooks/payments", id="pay_1", order=placed["order"])[0] == 202

    eventually(lambda: shop.state(placed["order"]) == "sent", within=30)
    assert shop.rows("SELECT left FROM orders_stock") == [(2,)]
    eventually(lambda: "Your parcel is on its way" in shop.worker.log, within=30)
    steps = shop.rows("SELECT key FROM flows_steps WHERE run_id = ? ORDER BY began", placed["run"])
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

    status = "SELECT status FROM flows_runs WHERE id = ?"
    eventually(lambda: shop.rows(status, placed["run"]) == [("cancelled",)], within=30)


def test_the_management_command_is_the_command_line_of_the_shop(shop: Shop) -> None:
    told = manage("flows", "doctor", "--json", "--settings=shop.settings", env=shop.env)

    findings = {one["subject"]: one for one in json.loads(told)["findings"]}
    assert (findings["transactions"]["level"], findings["workers"]["level"]) == ("ok", "ok")
    assert findings["transactions"]["text"] == "what is sent inside atomic() of 'default' belongs to it"
    assert findings["flows"]["text"] == "1 declared by this app"
