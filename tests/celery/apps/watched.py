"""A shop in which much goes wrong, for alerts to tell of."""

from celeryflows import OnCron
from tests.celery.apps.sheet import Sheet

SHEET = Sheet("watched")


@SHEET.flow(trigger="order/placed", retries=0)
def bill(ctx):
    """Fails each time."""
    raise ValueError("card declined")


@SHEET.flow(trigger="order/kept", queue="archive")
def archive(ctx):
    """Goes where nobody works."""


@SHEET.flow(trigger=OnCron("0 3 1 1 *"))
def inventory(ctx):
    """Once a year."""


app = SHEET.worker_app()
