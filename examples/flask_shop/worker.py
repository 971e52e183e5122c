"""The Celery app for workers: `celery -A worker worker`."""

from shop import create_app

celery = create_app().extensions["celery"]
