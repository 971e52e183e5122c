"""Standing between an app and Celery's own words without being seen by those who call them."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def celerys(app: Any, word: str) -> Any:
    """The word as the app's class has it, ours not asked."""
    found = getattr(type(app), word)
    return found.__get__(app) if hasattr(found, "__get__") else found


def told_outside(make: Callable[[], Any]) -> Any:
    """Celery's warnings name the caller, not us who stand between."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = make()
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "celery",
        "celeryflows",
    ):
        frame, level = frame.f_back, level + 1
    for one in told:
        warnings.warn(one.message, stacklevel=level)
    return made


def take_off(task: Any, ours: Mapping[str, Any]) -> None:
    """Celery's worker does not boot with a RateLimit left on a task, and sends no Priority."""
    for key in ours:
        if getattr(task, "_decorated", False):
            delattr(type(task), key)
        else:
            # The class may be that of other apps' tasks too.
            setattr(task, key, getattr(type(task).__mro__[1], key, None))
    task.bind(task.app)
