"""The Django app: it tells celeryflows where it lives, and loads every `flows.py`."""

from django.apps import AppConfig
from django.core import checks

from celeryflows.celery_bridge.surroundings import enter
from celeryflows.contrib.django.atomic import DjangoSurroundings
from celeryflows.contrib.django.discovery import load_flows, warnings_for


class FlowsConfig(AppConfig):
    """`celeryflows.contrib.django`."""

    name = "celeryflows.contrib.django"
    label = "celeryflows"
    verbose_name = "Flows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """In every process of the project, once its models are loaded."""
        enter(DjangoSurroundings())
        hidden = load_flows()
        checks.register(lambda app_configs, **_: warnings_for(hidden))
