"""Plain tasks under limits; a counter in Redis, taken in their bodies, is witness of who is inside."""

from celeryflows import Concurrency
from tests.celery.apps.limited import inside
from tests.celery.apps.sheet import Sheet

sheet = Sheet("shipping")
LIMIT, OF_KEY = 3, 1


@sheet.on("shipping/ordered", kwargs="{'user': event.data.user, 'no': event.data.no}")
@sheet.task(concurrency=[Concurrency(LIMIT), Concurrency(OF_KEY, key="kwargs.user")])
def ship(user: str, no: int = 0) -> int:
    """Be inside both limits for a moment."""
    return inside(f"user {user}", 0.01) * inside("all", 0.01)


app = sheet.worker_app()
