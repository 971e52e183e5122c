"""From `-A` to the engine: every command's first step, and how errors are told.

Exit codes: 1 when what was asked for failed or is not there, 2 for a command line that cannot be right."""

import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from celery import Celery

from celeryflows.celery_bridge.binding import Binding
from celeryflows.celery_bridge.settings import store_url
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import FlowsError, InvalidDuration, InvalidEvent
from celeryflows.store.database import Store

FAILED, WRONG_USAGE = 1, 2
MAKE_ONE = "Make one beside it: flows = Flows(app)"


class Refused(click.ClickException):
    """Ends the command with one line on stderr."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class WrongUsage(Refused):
    """The same for a command line that cannot be right."""

    exit_code = WRONG_USAGE


class FlowsGroup(click.Group):
    """Loads a command when it is asked for, and tells our errors in one line each.

    `commands_of` maps a command's name to "room:function" in this package.
    """

    def __init__(self, *args: Any, commands_of: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._commands_of = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(self._commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the name, None when there is none."""
        if cmd_name not in self._commands_of:
            return None
        room, _, function = self._commands_of[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"celeryflows.cli.{room}"), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (InvalidEvent, InvalidDuration) as error:
            raise WrongUsage(str(error)) from error
        except FlowsError as error:
            raise Refused(str(error)) from error


def app_of(ctx: click.Context) -> Celery:
    """The app that `-A` names, all of its modules imported. Raises Refused when it has no Flows."""
    app: Celery = ctx.obj.app
    _import_modules(app)
    if getattr(app, "flows_binding", None) is None:
        raise WrongUsage(_unnamed(ctx, app) or f"The app {app.main!r} has no Flows. {MAKE_ONE}")
    app.set_current()
    return app


def any_app_of(ctx: click.Context) -> Celery:
    """The same, with a Flows or without one yet. Raises WrongUsage when `-A` names none."""
    app: Celery = ctx.obj.app
    unnamed = _unnamed(ctx, app)
    if unnamed:
        raise WrongUsage(unnamed)
    _import_modules(app)
    return app


def binding_of(ctx: click.Context) -> Binding:
    """What the app's flows share."""
    binding: Binding = app_of(ctx).flows_binding
    return binding


def runtime_of(ctx: click.Context) -> Runtime:
    """The engine on the app's store. Raises StoreError when the store is not ready."""
    return binding_of(ctx).runtime


def bare_store(ctx: click.Context) -> Store:
    """The app's store, neither made nor checked."""
    return Store(store_url(app_of(ctx)))


def _import_modules(app: Celery) -> None:
    try:
        app.loader.import_default_modules()
        app.finalize()
    except FlowsError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise Refused(
            f"A module of the app {app.main!r} cannot be imported: {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})"
        ) from error


def _unnamed(ctx: click.Context, app: Celery) -> str:
    is_named = ctx.find_root().params.get("app") is not None or app.main not in (None, "default")
    return "" if is_named else "Name your app: celery -A <module> flows ..."
