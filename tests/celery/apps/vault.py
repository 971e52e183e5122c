"""Flows that handle a secret: `celery -A tests.celery.apps.vault`."""

from typing import Any

from celeryflows import Event, NonRetriableError, StepError
from tests.celery.apps.sheet import Sheet, witness

sheet = Sheet("vault")


def refuse(card: str) -> None:
    raise NonRetriableError(f"refused {card}")


@sheet.flow(trigger="order/placed")
def pay(ctx: Any) -> Any:
    """Put the secret into every tool."""
    card = ctx.event.data["card"]
    ctx.step.run("charge", dict, card=card)
    try:
        ctx.step.run("refuse", refuse, card)
    except StepError as error:
        witness(ctx.run_id, "refused", error.message == f"refused {card}")
    ctx.step.sleep("settle", "200ms")
    ctx.step.send_event("tell", Event("bank/answered", {"card": card}))
    answer = ctx.step.wait_for_event("answer", event="bank/answered", match="data.card", timeout="1m")
    return {"card": answer.data["card"]}


@sheet.flow(trigger="order/kept")
def keep(ctx: Any) -> None:
    """Stay under way."""
    ctx.step.sleep("long", "300 days")


app = sheet.worker_app()
