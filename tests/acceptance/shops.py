"""The shops of the examples at work: a web server and a worker as processes, over one database."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeryflows.store.database import Store
from tests.servers import LEASH
from tests.waiting import eventually
from tests.workers import ROOT, Worker, running_worker


def run_in(folder: Path, *words: str, env: dict[str, str]) -> str:
    """A Python program in a shop's folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **env},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@dataclass
class Shop:
    """A shop with its server and worker."""

    url: str
    env: dict[str, str]
    store: Store
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

    def rows(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """What stands in the database, the shop's tables and ours."""
        with self.store.connection() as connection:
            return connection.execute(sql, **params)


@contextmanager
def open_shop(
    folder: Path, app: str, serve: list[str], *, port: int, env: dict[str, str], store: str, log: Path
) -> Iterator[Shop]:
    """Its worker `celery -A APP`, its server by the words of `serve`, until the end of the block."""
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **env}
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), "", "9"]
    database = Store(store)
    with running_worker(app, "-c", "1", env=env) as worker, log.open("wb") as output:
        server = subprocess.Popen(
            [*leash, sys.executable, *serve], cwd=folder, env={**os.environ, **env}, stdout=output, stderr=output
        )
        try:
            eventually(lambda: f":{port}" in log.read_text(), within=30)
            yield Shop(f"http://127.0.0.1:{port}/", env, database, worker)
        finally:
            server.kill()
            server.wait(10)
            database.dispose()
