"""`flows doctor`: one line a finding; works when broker or store are down."""

import platform
from importlib.metadata import PackageNotFoundError, version

import click
from celery import Celery
from rich.console import Console
from rich.text import Text

from celeryflows.celery_bridge.binding import Binding
from celeryflows.celery_bridge.settings import database_alias, read_settings, sealer_of, store_url
from celeryflows.celery_bridge.surroundings import surroundings
from celeryflows.cli.broker_facts import look_at_broker
from celeryflows.cli.opening import binding_of
from celeryflows.cli.output import console_for, json_option, plain, print_json
from celeryflows.console.crew import crew
from celeryflows.console.doctor import Finding, Level, Mode, Patient, bad, examine, is_bad, ok, warn
from celeryflows.engine.settings import Settings
from celeryflows.errors import ConfigurationError
from celeryflows.store.database import Store

PACKAGES = ("celeryflows", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "pymysql")
STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "red"}


@click.command("doctor")
@json_option
@click.pass_context
def see_doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check broker, store, clocks, settings and workers; exit 1 when something has to be mended."""
    findings = examine(_patient(binding_of(ctx)))
    if as_json:
        print_json({"findings": findings})
    else:
        _print(findings, console_for(ctx))
    ctx.exit(1 if is_bad(findings) else 0)


def _print(findings: list[Finding], console: Console) -> None:
    for finding in findings:
        line = Text(f"{finding.level.value:<5}", style=STYLES[finding.level])
        line.append(f"{finding.subject}: ", style="default").append_text(plain(finding.text, 600, "default"))
        if finding.remedy:
            line.append(" " if finding.text.endswith((".", "?")) else ". ")
            line.append_text(plain(finding.remedy, 600, "bold default"))
        console.print(line, soft_wrap=True)


def _patient(binding: Binding) -> Patient:
    app, problems = binding.app, list[Finding]()
    settings = _settings(app, problems)
    return Patient(
        versions=_versions(),
        mode=Mode.EAGER if app.conf.task_always_eager else Mode.WORKERS,
        flows=len(binding.flows),
        settings=settings,
        store=_store(app, problems),
        broker=look_at_broker(app, sorted(binding.flows)),
        look_at_crew=lambda: crew(binding.runtime),
        problems=[*problems, *_transactions(app)],
    )


def _settings(app: Celery, problems: list[Finding]) -> Settings | None:
    try:
        return read_settings(app)
    except ConfigurationError as error:
        problems.append(bad("settings", str(error), "Mend or remove it: workers refuse to start."))
        return None


def _store(app: Celery, problems: list[Finding]) -> Store | None:
    try:
        return Store(store_url(app), sealer=sealer_of(app))
    except ConfigurationError as error:
        problems.append(bad("store", str(error), "Mend the setting that it names."))
        return None


def _transactions(app: Celery) -> list[Finding]:
    """What a send inside the project's own transaction is worth, where a framework keeps them."""
    around, alias = surroundings(), database_alias(app)
    if around is None:
        return []
    found = [warn("transactions", text, remedy) for text, remedy in around.warnings(alias)]
    return found or [ok("transactions", f"what is sent inside atomic() of {alias!r} belongs to it")]


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
