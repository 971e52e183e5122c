"""Registered payload models: what is sent is checked against them, what handlers get is read by them."""

from collections.abc import Mapping
from typing import Any

from celeryflows.errors import DeclarationError, InvalidEvent
from celeryflows.model.events import Event, StoredEvent, check_name


class SchemaRegistry:
    """Pydantic models by event name and version. The package `pydantic` is needed only by those who use it."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str | None], Any] = {}

    def register(self, name: str, model: Any, v: str | None = None) -> Any:
        """Tie a model to an event's name and version; the model. Raises DeclarationError for no pydantic model."""
        if not (isinstance(model, type) and hasattr(model, "model_validate") and hasattr(model, "model_dump")):
            raise DeclarationError(f"flows.event({name!r}, ...) takes a pydantic model class, got {model!r:.80}")
        self._models[check_name(name), v] = model
        return model

    def check(self, event: Event, index: int) -> Any:
        """The data to store. Raises InvalidEvent with the path of each field that does not fit."""
        model = self._models.get((event.name, event.v)) if self._models else None
        if model is None or (event.data is None and not self._models):
            return event.data
        try:
            if isinstance(event.data, model):
                return event.data
            return model.model_validate({} if event.data is None else event.data)
        except ValueError as error:
            raise InvalidEvent(
                f"event {event.name!r} does not fit {model.__name__}: {_problems(error)}", index
            ) from None

    def read(self, event: StoredEvent) -> Event:
        """The event as handlers see it; a payload that a newer model refuses stays a mapping."""
        public = event.public()
        model = self._models.get((event.name, event.v)) if self._models else None
        if model is None:
            return public
        try:
            data = model.model_validate(event.data)
        except ValueError:
            return public
        return Event(public.name, data, id=public.id, ts=public.ts, v=public.v)


def _problems(error: ValueError) -> str:
    found = getattr(error, "errors", None)
    details: list[Mapping[str, Any]] = found(include_url=False, include_input=False) if found is not None else []
    return "; ".join(f"$.{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in details) or str(error)
