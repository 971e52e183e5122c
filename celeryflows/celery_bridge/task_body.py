"""The body of an existing task's runs: its own function, called with the arguments that the run's event holds."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from celery import _state
from celery.app.task import Context as Request
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry

from celeryflows.codec import dumps
from celeryflows.durations import SECOND, from_datetime
from celeryflows.engine.failures import is_final
from celeryflows.errors import GaveUp, NotStorable, RetryAfterError, StepMisuse
from celeryflows.model.calls import arguments, mapped, trigger_of
from celeryflows.model.events import CRON_FIRED, FLOW_INVOKED, Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import retry_after

# On the request of a task that is at work as a run: the turn's context, and the retry that its body asked for.
AT_WORK, ASKED = "flows_ctx", "flows_retry"
Mapper = Callable[[Event], Mapping[str, Any]]


class TaskBody:
    """The handler of one flow whose body is a task's function. `mappers`: for each trigger the function that makes
    arguments of its events, where one was given."""

    def __init__(
        self,
        task: Any,
        run: Callable[..., Any],
        definition: FlowDefinition,
        mappers: Sequence[Mapper | None] = (),
        *,
        durable: bool = False,
    ) -> None:
        self._task = task
        self._run = run
        self._definition = definition
        self._mappers = mappers
        self._durable = durable
        self._signature = inspect.signature(run)

    def __call__(self, ctx: Any) -> Any:
        """Call the function for one turn."""
        args, kwargs = self._arguments(ctx)
        with at_work(self._task, ctx, args, kwargs) as request:
            if (before_start := getattr(self._task, "flows_before_start", None)) is not None:
                before_start(ctx.run_id, args, kwargs)
            try:
                value = self._run(*args, **kwargs)
            except (Ignore, Reject) as end:
                raise GaveUp(f"{type(end).__name__}: {_reason(end)}") from end
            except RetryAfterError as error:
                raise ask_again(self._task, exc=error, countdown=retry_after(error, _now()) / SECOND) from error
            if (asked := vars(request).get(ASKED)) is not None:
                raise asked
        return value if self._durable else self._storable(value, request)

    def _storable(self, value: Any, request: Any) -> Any:
        """A task whose result nobody keeps may return anything, as it may without us."""
        ignored = request.ignore_result or self._task.ignore_result
        if not ignored and not isinstance(self._task.backend, DisabledBackend):
            return value
        try:
            dumps(value)
        except NotStorable:
            return None
        return value

    def _arguments(self, ctx: Any) -> tuple[list[Any], dict[str, Any]]:
        event = ctx.event
        given = self._given(event)
        if not isinstance(given, Mapping):
            raise TypeError(f"kwargs of {self._task.name!r} gave {type(given).__name__}, not a mapping of arguments")
        try:
            return arguments(self._signature, given)
        except TypeError as error:
            if event.name == FLOW_INVOKED:
                raise
            raise TypeError(
                f"{self._task.name} does not take what {event.name!r} gives ({error}). Say which arguments it gets: "
                "flows.on(..., kwargs=\"{'to': event.data.email}\")"
            ) from None

    def _given(self, event: Event) -> Any:
        definition = self._definition
        data = event.data if isinstance(event.data, Mapping) else event.data.model_dump(mode="json")
        if event.name == FLOW_INVOKED:
            return data
        ts = from_datetime(event.ts) // 1000 if event.ts is not None else None
        scope = {"name": event.name, "data": data, "id": event.id, "ts": ts, "v": event.v}
        at = trigger_of(definition, scope)
        if at is None and len(set(self._mappers)) == 1:
            at = 0
        if at is not None and (mapper := self._mappers[at]) is not None:
            return mapper(event)
        if event.name == CRON_FIRED and (at is None or definition.mappings[at] is None):
            # A beat entry without arguments gives none; what the task asks for by name it gets.
            return {name: data[name] for name in self._signature.parameters if name in data}
        value, problem = mapped(definition, scope)
        if problem is not None:
            raise TypeError(f"kwargs of {self._task.name!r} cannot be evaluated for {event.name!r}: {problem}")
        return value


@contextmanager
def at_work(task: Any, ctx: Any, args: list[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    """While the body runs, the task's request is the run's: its id, arguments, attempt, and the turn's context.

    The request is local to thread and greenlet, so whatever turns are at work on the task do not meet.
    """
    top = task.request_stack.top
    is_own = top is None or top.called_directly or getattr(top, AT_WORK, None) is not None
    request = Request(called_directly=False) if is_own else top
    before = {name: getattr(request, name, None) for name in ("id", AT_WORK)}
    request.update(id=ctx.run_id, args=args, kwargs=kwargs, retries=ctx.attempt)
    vars(request).update({AT_WORK: ctx, ASKED: None})
    if is_own:
        task.request_stack.push(request)
        _state._task_stack.push(task)
    try:
        yield request
    finally:
        vars(request).update(before)
        if is_own:
            task.request_stack.pop()
            _state._task_stack.pop()


def turn_of(task: Any) -> Any:
    """The context of the turn in which the task's function runs in this thread, None outside of one."""
    top = task.request_stack.top
    return None if top is None else getattr(top, AT_WORK, None)


def ask_again(
    task: Any,
    *,
    args: Any = None,
    kwargs: Any = None,
    exc: BaseException | None = None,
    eta: datetime | None = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    **options: Any,
) -> Retry:
    """`self.retry` of a run: the Retry that its body is to leave with.

    Raises `exc`, or MaxRetriesExceededError, when the retries are spent or cannot help, StepMisuse for what a run
    cannot have.
    """
    request = task.request
    if exc is not None and (not isinstance(exc, Exception) or is_final(exc)):
        raise exc
    _check_same(task, request, args, kwargs, options)
    if max_retries is not None:
        # Celery's own word for autoretry_for, which passes it on.
        task.override_max_retries = max_retries
    most = task.max_retries if max_retries is None else max_retries
    if most is not None and request.retries + 1 > most:
        if exc is not None:
            raise exc
        raise MaxRetriesExceededError(f"Can't retry {task.name}[{request.id}] more than {most} times")
    if eta is None and countdown is None:
        countdown = task.default_retry_delay
    asked = Retry(exc=exc, when=countdown if eta is None else eta)
    vars(request)[ASKED] = asked
    return asked


def _check_same(task: Any, request: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> None:
    if options:
        raise StepMisuse(
            f"{task.name}: self.retry({next(iter(options))}=...) is not for a run, which keeps its options"
        )
    if (args is not None and list(args) != list(request.args)) or (kwargs is not None and kwargs != request.kwargs):
        signature = inspect.signature(task.run)
        ours = signature.bind(*request.args, **request.kwargs)
        theirs = signature.bind(*(request.args if args is None else args), **(kwargs or {}))
        ours.apply_defaults()
        theirs.apply_defaults()
        if ours != theirs:
            raise StepMisuse(f"{task.name}: self.retry(args, kwargs) is not for a run, which keeps its arguments")


def again(error: BaseException, now: int) -> int | None:
    """Microseconds until a body that left with this error is called again; None when it is not."""
    if not isinstance(error, Retry):
        return None
    when = error.when
    if isinstance(when, datetime):
        return max(0, from_datetime(when if when.tzinfo is not None else when.replace(tzinfo=UTC)) - now)
    return max(0, int(float(when or 0) * SECOND))


def _reason(end: BaseException) -> str:
    reason = getattr(end, "reason", None)
    return str(reason if reason is not None else end)[:200] or "no reason given"


def _now() -> int:
    return from_datetime(datetime.now(UTC))
