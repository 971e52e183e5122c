"""Found by `app.autodiscover_tasks([...], related_name="flows")`; declared on whatever app is current."""

from typing import Any

from celeryflows import current_flows


@current_flows.flow
def ship(ctx: Any) -> str:
    """Named as Celery names tasks."""
    return ctx.step.run("ship", lambda: "shipped")
