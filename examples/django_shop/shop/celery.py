"""The project's Celery app, as Celery's pages on Django show it, and its Flows: `celery -A shop worker`."""

import os

from celery import Celery

from celeryflows import Flows

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

flows = Flows(app)
