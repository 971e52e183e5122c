"""What a turn leaves open when it suspends, and a wait's reading from the handler's words."""

from dataclasses import dataclass

from celeryflows.codec import canonical
from celeryflows.durations import parse_bounded, parse_duration
from celeryflows.engine.children import Child
from celeryflows.engine.settings import Settings
from celeryflows.errors import ExpressionError, InvalidDuration
from celeryflows.expressions import compile_expression
from celeryflows.model.branches import NewGroup
from celeryflows.model.events import RESERVED, check_name
from celeryflows.model.remote_tasks import NewTask
from celeryflows.model.signals import SignalSpec
from celeryflows.model.waits import CONDITION_ONLY, WAIT_NAMES, WaitSpec, is_path, value_at
from celeryflows.steps import WaitRequest
from celeryflows.store.runs import Claim
from celeryflows.store.steps import StepRow


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that goes on later: at a time, by an event, a signal, a child, a task or a group. `armed`: what it waits
    for is stored already."""

    row: StepRow
    wait: WaitSpec | None = None
    armed: bool = False
    signal: SignalSpec | None = None
    child: Child | None = None
    task: NewTask | None = None
    group: NewGroup | None = None

    @property
    def waits(self) -> bool:
        """True when something else than time may end it."""
        return self.armed or any(one is not None for one in (self.wait, self.signal, self.child, self.task))


def wait_spec(key: str, request: WaitRequest, claim: Claim, *, previous: int, now: int, settings: Settings) -> WaitSpec:
    """Check the words of a wait. Raises ExpressionError, InvalidEvent or InvalidDuration; the run fails with it."""
    if request.match is not None and request.if_exp is not None:
        raise ExpressionError(f"wait {key!r}: match or if_exp, not both; put the match into the condition")
    name = request.event if request.event.startswith(RESERVED) else check_name(request.event)
    path, value = CONDITION_ONLY, ""
    if request.match is not None:
        path, value = request.match, _match_value(key, request.match, claim)
    if request.if_exp is not None:
        compile_expression(request.if_exp, names=WAIT_NAMES, what=f"if_exp of wait {key!r}")
    timeout = parse_bounded(request.timeout, what=f"wait {key!r}: timeout", least=1000, most=settings.max_wait)
    began = _began(key, request.lookback, claim, previous, now)
    return WaitSpec(key, name, path, value, request.if_exp, began, timeout)


def _match_value(key: str, path: str, claim: Claim) -> str:
    if not is_path(path):
        raise ExpressionError(f"wait {key!r}: match={path!r} is no path of a field, such as match='data.order_id'")
    found = value_at(claim.event.data, path)
    if found is None:
        raise ExpressionError(
            f"wait {key!r}: match={path!r} is null or missing in the run's event; it would match every event without "
            "the field"
        )
    return canonical(found)


def _began(key: str, lookback: object, claim: Claim, previous: int, now: int) -> int:
    if lookback == "step":
        return previous
    if lookback == "wait":
        return now
    if lookback == "run":
        return claim.started_at
    try:
        return now - parse_duration(lookback, f"wait {key!r}: lookback")  # type: ignore[arg-type]
    except InvalidDuration as error:
        raise InvalidDuration(f"{error}; or one of 'step', 'wait', 'run'") from None
