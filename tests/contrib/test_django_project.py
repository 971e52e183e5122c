"""Promises to a Django project: its settings and databases are read, its `flows.py` found, its command is ours."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from celery.contrib.django.task import DjangoTask
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from celeryflows import ConfigurationError, Event, Flows
from celeryflows.celery_bridge import surroundings
from celeryflows.celery_bridge.settings import database_alias, read_settings, store_url, store_word
from celeryflows.cli.doctor_command import _transactions
from celeryflows.contrib.django import discovery
from celeryflows.contrib.django.databases import alias_url
from celeryflows.contrib.django.discovery import warnings_for
from celeryflows.testing import FlowsTester
from tests.contrib.conftest import add_alias, drop_alias

pytestmark = pytest.mark.usefixtures("in_django")
PLACE = "celeryflows.contrib.django.management.commands.flows"


@pytest.fixture
def shop_alias(sqlite_url: str) -> Iterator[str]:
    """A database of the project on a file."""
    add_alias("shop", sqlite_url, OPTIONS={"transaction_mode": "IMMEDIATE"})
    yield "shop"
    drop_alias("shop")


def app_with(**settings: Any) -> Celery:
    """A project's app, its settings as Django's."""
    app = Celery("shop", set_as_current=False)
    names = {f"CELERY_{name.upper()}": value for name, value in {"broker_url": "memory://", **settings}.items()}
    app.config_from_object(SimpleNamespace(**names), namespace="CELERY")
    return app


# --- settings and databases


def test_settings_are_read_by_their_namespace() -> None:
    app = app_with(flows_max_steps=7, flows_store_url="sqlite:////tmp/x")

    assert (read_settings(app).max_steps, store_url(app), database_alias(app)) == (7, "sqlite:////tmp/x", None)


def test_a_misspelt_setting_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean flows_max_steps"):
        read_settings(app_with(flows_max_step=7))


def test_a_database_of_the_project_is_the_store(shop_alias: str, sqlite_url: str) -> None:
    app = app_with(flows_store_url=f"django:{shop_alias}")

    assert (store_url(app), database_alias(app)) == (sqlite_url, "shop")


def test_other_processes_are_told_the_alias_and_no_password(shop_alias: str) -> None:
    assert store_word(app_with(flows_store_url="django:shop")) == "django:shop"
    assert store_word(app_with(flows_store_url="sqlite:////x")) == "sqlite:////x"


def test_a_server_is_reached_as_the_project_reaches_it() -> None:
    options = {"sslmode": "require", "pool": True, "isolation_level": 4, "connect_timeout": 3}
    given = {"USER": "ann", "PASSWORD": "p@ss/word", "HOST": "db.example.com", "PORT": "6543", "OPTIONS": options}
    add_alias("far", "postgresql://x@/shop?host=/x", **given)

    assert (
        alias_url("far") == "postgresql://ann:p%40ss%2Fword@db.example.com:6543/shop?connect_timeout=3&sslmode=require"
    )
    drop_alias("far")


def test_a_servers_socket_is_found() -> None:
    add_alias("near", "postgresql://ann@/shop?host=/run/postgresql")

    assert alias_url("near") == "postgresql://ann@/shop?host=%2Frun%2Fpostgresql"
    drop_alias("near")


@pytest.mark.parametrize(
    ("alias", "told"),
    [("default", "in memory, or no plain path"), ("nowhere", "doesn't exist"), ("other", "is no store of celeryflows")],
)
def test_what_cannot_be_the_store_is_told_with_the_remedy(alias: str, told: str) -> None:
    other = add_alias("other", "sqlite:////x")
    other.vendor, other.display_name = "other", "Other"

    with pytest.raises(ConfigurationError, match=told):
        alias_url(alias)

    drop_alias("other")


def test_an_alias_without_django_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_entered", [])

    with pytest.raises(ConfigurationError, match=r"'celeryflows.contrib.django' in INSTALLED_APPS"):
        store_url(app_with(flows_store_url="django:default"))


# --- tasks


def test_djangos_own_task_class_stays_and_delays_on_commit(shop_alias: str) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False, task_cls=DjangoTask)
    app.conf.flows_store_url = f"django:{shop_alias}"
    flows = Flows(app)
    task = flows.flow(name="pack")(lambda ctx: ctx.event.data)

    with FlowsTester(flows) as tester:
        with transaction.atomic():
            task.delay_on_commit(n=1)
            tester.advance("0s")
            assert tester.runs() == []
        tester.advance("0s")
        assert [run.output for run in tester.runs()] == [{"n": 1}]
    connection.close()
    assert isinstance(task, DjangoTask)


# --- flows.py


def test_a_package_that_loses_its_flows_to_the_module_is_told() -> None:
    (warning,) = warnings_for(["shop"])

    assert warning.id == "celeryflows.W001"
    assert "`from shop import flows` gives the module shop/flows.py" in warning.msg


def test_such_a_package_is_found_when_its_flows_are_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "lossy_shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "flows.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    package = ModuleType("lossy_shop")
    package.__path__ = [str(folder)]
    package.flows = Flows()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lossy_shop", package)
    config = SimpleNamespace(name="lossy_shop", module=package)
    monkeypatch.setattr(discovery.apps, "get_app_configs", lambda: [config])
    monkeypatch.setattr("django.apps.apps.app_configs", {"lossy_shop": config})

    assert discovery.load_flows() == ["lossy_shop"]
    assert sys.modules["lossy_shop.flows"].LOADED
    monkeypatch.delitem(sys.modules, "lossy_shop.flows")


# --- the command


@pytest.fixture
def project_app(monkeypatch: pytest.MonkeyPatch, shop_alias: str) -> Iterator[Celery]:
    """The project's app is the current one."""
    app = app_with(flows_store_url=f"django:{shop_alias}")
    Flows(app).flow(name="pack", trigger="order/paid")(lambda ctx: None)
    before = _state._tls.current_app
    monkeypatch.setattr(f"{PLACE}.current_app", SimpleNamespace(_get_current_object=lambda: app))
    yield app
    app.flows.runtime.store.dispose()
    _state._tls.current_app = before


def test_the_command_has_all_commands(project_app: Celery, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("flows", "db", "upgrade")
    project_app.flows.send(Event("order/paid", {"n": 1}))
    call_command("flows", "runs", "--json")

    assert '"flow": "pack"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [(["show", "nothing"], "nothing", 1), (["nonsense"], "No such command", 2), (["runs", "--limit", "x"], "limit", 2)],
)
def test_its_errors_are_the_commands(project_app: Celery, words: list[str], told: str, code: int) -> None:
    with pytest.raises(CommandError, match=told) as raised:
        call_command("flows", *words)

    assert raised.value.returncode == code


def test_a_project_without_an_app_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PLACE}.current_app", SimpleNamespace(_get_current_object=lambda: None))
    monkeypatch.setattr(f"{PLACE}.settings", SimpleNamespace(SETTINGS_MODULE="nowhere.settings"))

    with pytest.raises(CommandError, match="No Celery app was found in 'nowhere'"):
        call_command("flows", "runs")


# --- the doctor


@pytest.mark.parametrize(
    ("url", "options", "level", "told"),
    [
        ("django:shop", {"transaction_mode": "IMMEDIATE"}, "ok", "atomic() of 'shop' belongs to it"),
        ("django:shop", {}, "warn", "begins without its write lock"),
        ("sqlite:////tmp/elsewhere", {}, "warn", "only waits for its commit"),
    ],
)
def test_the_doctor_tells_what_a_send_inside_a_transaction_is_worth(
    sqlite_url: str, url: str, options: dict[str, str], level: str, told: str
) -> None:
    add_alias("shop", sqlite_url, OPTIONS=options)
    (finding,) = _transactions(app_with(flows_store_url=url))

    assert (finding.level, finding.subject) == (level, "transactions")
    assert told in finding.text
    drop_alias("shop")
