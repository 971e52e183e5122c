"""An exception as it is stored and shown: its name, its text, and the user's part of the traceback."""

import asyncio
import concurrent.futures
import json
import threading
import traceback
from collections.abc import Iterable
from itertools import dropwhile
from pathlib import Path
from types import FrameType, TracebackType

from celeryflows.codec import loads_plain
from celeryflows.errors import (
    BoundExceeded,
    ExpressionError,
    InvalidDuration,
    InvalidEvent,
    InvalidOutput,
    NondeterminismError,
    NonRetriableError,
    NotStorable,
    RunFailed,
    StepError,
    StepMisuse,
    StepTimeout,
)
from celeryflows.model.steps import Failure

# What calls the user's code: we, and on the way into a thread asyncio and its pool.
_CALLERS = tuple(
    f"{Path(file).resolve().parent}/" for file in (Path(__file__).parent, asyncio.__file__, concurrent.futures.__file__)
)
TEXT_BOUND = 64_000
# Trying these again cannot help.
FINAL = (
    NonRetriableError,
    NotStorable,
    InvalidOutput,
    BoundExceeded,
    ExpressionError,
    InvalidDuration,
    InvalidEvent,
    InvalidOutput,
    StepMisuse,
    NondeterminismError,
    StepError,
)

# A StepError that handlers may want to tell from others, by the name in its stored form.
_KINDS: dict[str, type[StepError]] = {"StepTimeout": StepTimeout}


def is_final(error: BaseException | None) -> bool:
    """True when trying again cannot help; a group's errors decide for it."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_final(one) for one in error.exceptions)
    return isinstance(error, FINAL)


def failure_of(error: BaseException, step_id: str | None = None) -> Failure:
    """The error's stored form; of a StepError the original's."""
    if isinstance(error, StepError):
        return Failure(error.name, error.message, error.stack, error.step_id)
    return Failure(type(error).__name__, storable(_text(error)), storable(_stack(error)), step_id)


def failure_text(failure: Failure) -> str:
    """As JSON."""
    return json.dumps(failure.json(), ensure_ascii=False, separators=(",", ":"))


def read_failure(text: str | None) -> Failure:
    """The failure again."""
    return Failure(**loads_plain(text)) if text else Failure("Unknown", "")


def step_error(step_id: str, text: str | None) -> StepError:
    """The error that a handler gets for a step whose attempts are spent."""
    failure = read_failure(text)
    return _KINDS.get(failure.name, StepError)(step_id, failure.name, failure.message, failure.stack)


def run_failed(run_id: str, text: str | None) -> RunFailed:
    """The error of a failed run for who asks for its value."""
    failure = read_failure(text)
    return RunFailed(run_id, failure.name, failure.message, failure.stack, failure.step_id)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<{type(error).__name__} whose text cannot be made: {type(broken).__name__}>"


def stack_of(frames: Iterable[FrameType]) -> str:
    """Where a piece of the user's code is right now, the outermost frame first, without what called it."""
    lines = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    users = dropwhile(lambda line: line.filename.startswith((*_CALLERS, threading.__file__)), lines)
    return storable("".join(traceback.format_list(list(users))))


def _stack(error: BaseException) -> str:
    try:
        shown = traceback.TracebackException(type(error), error, _users_part(error.__traceback__))
        return "".join(shown.format())
    except Exception as broken:
        return f"<no traceback: {type(broken).__name__}>"


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_CALLERS):
        trace = trace.tb_next
    return trace


def storable(text: str) -> str:
    """Storable on every database: no lone surrogates, no NUL, within a bound."""
    text = text if len(text) <= TEXT_BOUND else text[:TEXT_BOUND] + " ... (cut)"
    return text.encode("utf-8", "replace").decode().replace("\0", "\\0")
