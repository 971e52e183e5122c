"""`flows.py` of each installed app, beside its `tasks.py`."""

from importlib.util import find_spec

from django.apps import apps
from django.core import checks
from django.utils.module_loading import autodiscover_modules

from celeryflows.app import Flows


def load_flows() -> list[str]:
    """Import every `flows.py`, so that workers, views and commands know the same flows; the packages that lose a name.

    A package that offers its Flows as `flows` and has a `flows.py` loses the name to the module.
    """
    offering = [config.name for config in apps.get_app_configs() if isinstance(_flows_of(config.module), Flows)]
    autodiscover_modules("flows")
    return [name for name in offering if find_spec(f"{name}.flows") is not None]


def warnings_for(hidden: list[str]) -> list[checks.CheckMessage]:
    """What `manage.py check` and each worker say of such packages."""
    return [
        checks.Warning(
            f"`from {name} import flows` gives the module {name}/flows.py, which hides the Flows of that name.",
            hint="Import the Flows from the module that makes it, or give one of them another name.",
            id="celeryflows.W001",
        )
        for name in hidden
    ]


def _flows_of(package: object) -> object:
    return vars(package).get("flows")
