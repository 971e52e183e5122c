"""A shop: orders, payments by webhook, parcels. Views, tasks and flows share one database."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
