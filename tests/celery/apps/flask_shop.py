"""Flask's documented factory: its Task class opens the app's context. `celery -A tests.celery.apps.flask_shop`."""

import json
import os
import time
from typing import Any

from celery import Celery, Task
from flask import Flask, current_app

from celeryflows import Flows

flows = Flows()


class Audited(Task):
    """A base class with an option and a hook of its own."""

    abstract = True
    tenant = "none"

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        print(f"audited {task_id} {self.tenant}", flush=True)  # noqa: T201


@flows.flow(name="flask.greeting")
def greeting(ctx: Any) -> str:
    """Read a setting of the Flask app, before a sleep and after."""
    first = ctx.step.run("first", lambda: current_app.config["GREETING"])
    ctx.step.sleep("between", "100ms")
    return f"{first}, {ctx.step.run('second', lambda: current_app.config['GREETING'])}"


@flows.flow(name="flask.limited", rate_limit="10/m")
def limited(ctx: Any) -> str:
    return ctx.run_id


@flows.flow(name="flask.unanswered", ignore_result=True)
def unanswered(ctx: Any) -> str:
    return "nobody asks"


@flows.flow(name="flask.audited", base=Audited, tenant="blue")
def audited(ctx: Any) -> str:
    ctx.step.sleep("a while", "100ms")
    return "done"


@flows.flow(name="flask.bounded", time_limit=2, retries=0)
def bounded(ctx: Any) -> str:
    """More steps than fit into half of its time limit, none of them long."""
    for i in range(25):
        ctx.step.run(f"step {i}", time.sleep, 0.1)
    return "all"


@flows.flow(name="flask.stuck", soft_time_limit=1, retries=0)
def stuck(ctx: Any) -> str:
    """A step that overruns the soft limit."""
    ctx.step.run("stuck", time.sleep, 30)
    return "never"


@flows.flow(name="flask.killed", time_limit=1, retries=1)
def killed(ctx: Any) -> str:
    """A step that overruns the hard limit the first time only."""
    ctx.step.run("stuck", overrun_once, ctx.run_id)
    return "in the end"


def overrun_once(run_id: str) -> None:
    try:
        os.close(os.open(f"{os.environ['WITNESS']}.{run_id}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    time.sleep(30)


def create_app(settings: dict[str, Any]) -> Flask:
    """As in Flask's manual, "Background Tasks with Celery"."""
    flask_app = Flask("flask_shop")
    flask_app.config["GREETING"] = "hello"

    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with flask_app.app_context():
                return self.run(*args, **kwargs)

    app = Celery("flask_shop", task_cls=FlaskTask, set_as_current=False)
    app.conf.update(settings)
    flask_app.extensions["celery"] = app
    flows.init_app(flask_app)
    return flask_app


if "APP_SETTINGS" in os.environ:
    app = create_app(json.loads(os.environ["APP_SETTINGS"])).extensions["celery"]
