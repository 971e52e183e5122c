"""Flows that fail until something is mended: `celery -A tests.celery.apps.again`."""

from typing import Any

from tests.celery.apps.sheet import Sheet, gate, witness

sheet = Sheet("again")


def pack(item: str) -> str:
    witness("pack", item)
    return f"packed {item}"


def charge(item: str, card: str) -> str:
    if card == "bad":
        raise ValueError("declined")
    return f"charged {item} to {card}"


def work(item: str) -> str:
    if not gate("mended").exists():
        raise ValueError("broken")
    return item


@sheet.flow(retries=0)
def order(ctx: Any) -> list[str]:
    """A step that is done, then one that fails for a bad card."""
    data = ctx.event.data
    packed = ctx.step.run("pack", pack, data["item"])
    return [packed, ctx.step.run("charge", charge, data["item"], data["card"])]


@sheet.flow(retries=0)
def batch(ctx: Any) -> str:
    """Fails until it is mended."""
    return str(ctx.step.run("work", work, ctx.event.data["item"]))


app = sheet.worker_app()
