"""Alerts: a built-in flow looks at the rules once a minute and sends what they saw; each message is a step, retried.

A rule is told once in its `every`, however much happens, and all that goes to one place goes in one message."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celeryflows.celery_bridge.declaration import Declaration
from celeryflows.console.alerting import look, remember
from celeryflows.console.telling import send
from celeryflows.context import Context
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import NonRetriableError, StepError
from celeryflows.model.events import RUN_FAILED
from celeryflows.model.limits import Debounce, Singleton
from celeryflows.model.triggers import OnCron, OnEvent
from celeryflows.settings.alerts import AlertRule

NAME = "celeryflows.alerts"
RETRIES = 6


class Host(Protocol):
    """What alerts ask of an app's binding."""

    app: Any

    @property
    def runtime(self) -> Runtime: ...
    @property
    def alert_rules(self) -> tuple[AlertRule, ...]: ...
    def declare(self, declaration: Declaration) -> Any: ...


def install_alerts(host: Host) -> None:
    """Declare the flow as soon as the app's settings are complete, when they hold rules."""

    def declare(sender: Any, **_: Any) -> None:
        rules = host.alert_rules
        if rules:
            host.declare(Declaration(watch(host, rules), options()))

    host.app.on_after_finalize.connect(declare, weak=False)


def options() -> dict[str, Any]:
    """How the flow is declared: it looks soon after a failure and once a minute, one look at a time, so that a place
    that does not answer is not told twice."""
    # Failures are kept as events of ours because this flow listens to them: the look counts them.
    triggers = [OnEvent(RUN_FAILED), OnCron("* * * * *", missed="latest")]
    calm = {"debounce": Debounce("5s", timeout="30s"), "singleton": Singleton("skip")}
    return {"name": NAME, "label": "Alerts", "trigger": triggers, "retries": RETRIES, **calm}


def watch(host: Host, rules: Sequence[AlertRule]) -> Any:
    """The flow's handler for these rules."""
    places = {rule.name: rule.to for rule in rules}

    def see() -> dict[str, Any]:
        seen = look(host.runtime, rules)
        return {"at": seen.at, "alarms": [[alarm.rule, list(alarm.lines)] for alarm in seen.alarms]}

    def tell_alerts(ctx: Context) -> int:
        """Look, send, remember; how many messages were sent."""
        seen = ctx.step.run("look", see)
        messages = messages_of(seen["alarms"], places)
        errors = []
        for number, (address, lines) in enumerate(messages.items()):
            try:
                ctx.step.run(f"send {number}", send, address, title(host.runtime.app, seen["alarms"]), lines)
            except StepError as error:
                errors.append(error.message)
        if messages:
            # Also when a place is out of order: the others must not be told again for it.
            ctx.step.run("remember", remember, host.runtime, [name for name, _ in seen["alarms"]], seen["at"])
        if errors:
            raise NonRetriableError("; ".join(errors))
        return len(messages)

    return tell_alerts


def messages_of(alarms: Sequence[Sequence[Any]], places: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """One message for each place, in an order that is the same at each replay."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, lines in alarms:
        for address in places.get(name, ()):
            found[address] += [f"[{name}]", *lines]
    return dict(found)


def title(app: str, alarms: Sequence[Sequence[Any]]) -> str:
    """A message's title."""
    return f"{app}: {', '.join(str(name) for name, _ in alarms)}"
