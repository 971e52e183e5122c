"""`manage.py flows ...`: what `celery -A app flows ...` does, for the project's own Celery app."""

import argparse
import os
from types import SimpleNamespace
from typing import Any

import click
from celery import current_app
from celery.app.utils import find_app
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from celeryflows.cli import flows

# Read by Django before any command, and no business of ours.
DJANGOS_OWN = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """The click group with Django's app in the place of `-A`."""

    requires_system_checks = ()
    help = "Durable flows: runs, events, send, cancel, rerun, doctor, db upgrade and the rest; see `flows --help`."

    def run_from_argv(self, argv: list[str]) -> None:
        """From the command line: click reads the arguments, and its exit codes are the command's."""
        flows.main(args=_ours(argv[2:]), prog_name=f"{os.path.basename(argv[0])} {argv[1]}", obj=_place())

    def add_arguments(self, parser: Any) -> None:
        """For `call_command`: all words are click's."""
        parser.add_argument("args", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """From `call_command("flows", "runs", "--json")`: raises CommandError with the line that a terminal shows."""
        try:
            code = flows.main(args=[str(arg) for arg in args], prog_name="flows", obj=_place(), standalone_mode=False)
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from error
        if code:
            raise CommandError("not all is well; see what was printed", returncode=code)


def _ours(argv: list[str]) -> list[str]:
    found, rest = [], iter(argv)
    for word in rest:
        if word in DJANGOS_OWN:
            next(rest, None)
        elif not word.startswith(tuple(f"{own}=" for own in DJANGOS_OWN)):
            found.append(word)
    return found


def _place() -> SimpleNamespace:
    """What Celery's own command line hands to its commands."""
    return SimpleNamespace(app=_project_app())


def _project_app() -> Any:
    """The Celery app of the project: the current one if it has a Flows, else that of the project's package."""
    app = current_app._get_current_object()
    if getattr(app, "flows_binding", None) is not None:
        return app
    package = str(settings.SETTINGS_MODULE).partition(".")[0]
    try:
        return find_app(package)
    except (AttributeError, ImportError) as error:
        raise CommandError(
            f"No Celery app was found in {package!r}. Import it in {package}/__init__.py, as Celery's pages on Django "
            "show, or use celery -A <module> flows."
        ) from error
