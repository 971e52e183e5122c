"""What `step.using` is given, and which tool takes which of it."""

from dataclasses import dataclass, fields, replace
from typing import Any

from celeryflows.durations import DAY, Duration, parse_bounded
from celeryflows.errors import DeclarationError, InvalidDuration, StepMisuse
from celeryflows.model.output_types import OutputType, read_output_type
from celeryflows.model.retries import BackoffRule, RetryPolicy, check_backoff, check_retries

WHAT = "step.using"
TIMEOUT_LEAST, TIMEOUT_MOST = 1000, 366 * DAY

# A tool that is not named takes none.
TAKES = {
    "run": ("retries", "backoff", "timeout", "output_type"),
    "transaction": ("retries", "backoff", "output_type"),
    "invoke": ("output_type", "cancel_with_parent"),
    "task": ("output_type",),
}
_OWN_TIMEOUT = ("wait_for_event", "wait_for_signal", "invoke", "task")


@dataclass(frozen=True, slots=True)
class StepOptions:
    """The options of the steps that are called through them; None where the flow's own, or none, hold.

    `timeout` is in microseconds.
    """

    retries: int | None = None
    backoff: BackoffRule | None = None
    timeout: int | None = None
    output_type: OutputType | None = None
    cancel_with_parent: bool | None = None

    def policy(self, flow: RetryPolicy) -> RetryPolicy:
        """How often a step is tried again, where it differs from its flow."""
        if self.retries is None and self.backoff is None:
            return flow
        return RetryPolicy(
            flow.retries if self.retries is None else self.retries, self.backoff if self.backoff else flow.backoff
        )

    def check_for(self, tool: str, id: object) -> None:
        """Raise StepMisuse, with the remedy, when the tool does not take one of the options."""
        for one in fields(self):
            if getattr(self, one.name) is not None and one.name not in TAKES.get(tool, ()):
                raise StepMisuse(
                    f"step {id!r}: using({one.name}=...) does not go with {tool}; {_remedy(tool, one.name)}"
                )


PLAIN = StepOptions()


def read_options(known: StepOptions, **given: Any) -> StepOptions:
    """The options with those that are given put on top. Raises StepMisuse for a value that cannot be."""
    found = {name: value for name, value in given.items() if value is not None}
    try:
        if "retries" in found:
            check_retries(found["retries"], WHAT)
        if "backoff" in found:
            check_backoff(found["backoff"], WHAT)
        if "timeout" in found:
            found["timeout"] = read_timeout(found["timeout"])
        if "output_type" in found:
            found["output_type"] = read_output_type(found["output_type"], WHAT)
    except (DeclarationError, InvalidDuration) as error:
        raise StepMisuse(str(error)) from None
    if not isinstance(found.get("cancel_with_parent", False), bool):
        raise StepMisuse(f"{WHAT}: cancel_with_parent={found['cancel_with_parent']!r}; True or False")
    return replace(known, **found)


def read_timeout(value: Duration) -> int:
    """A step's timeout in microseconds."""
    return parse_bounded(value, what=f"{WHAT}: timeout", least=TIMEOUT_LEAST, most=TIMEOUT_MOST)


def _remedy(tool: str, option: str) -> str:
    if option == "timeout":
        if tool in _OWN_TIMEOUT:
            return f"give it as {tool}(..., timeout=...)"
        if tool == "transaction":
            return "a commit cannot be abandoned; bound its statements in the database (SET LOCAL statement_timeout)"
    if option in ("retries", "backoff"):
        if tool == "invoke":
            return "the invoked flow has its own"
        if tool == "task":
            return "the task has its own: autoretry_for, max_retries"
        return "it has no attempts; leave it out"
    if option == "output_type" and tool == "wait_for_event":
        return "register the event's model with flows.event(name, Model)"
    if option == "cancel_with_parent":
        return "it belongs to invoke"
    return "leave it out"
