"""Durable flows for Celery: events trigger functions made of memoized steps that survive anything."""

from celeryflows.app import Flows, current_flows
from celeryflows.context import Context
from celeryflows.errors import (
    BoundExceeded,
    ConfigurationError,
    DeclarationError,
    ExpressionError,
    FlowsError,
    InvalidDuration,
    InvalidEvent,
    InvalidOutput,
    NondeterminismError,
    NonRetriableError,
    NotStorable,
    RetryAfterError,
    RunCancelled,
    RunFailed,
    RunTimeout,
    SchemaMismatch,
    StepError,
    StepMisuse,
    StepTimeout,
    StoreError,
    StoreMismatch,
    StoreUnavailable,
    UnknownFlow,
    UnknownRun,
)
from celeryflows.handle import RunHandle
from celeryflows.middleware import Middleware, RunCall, StepCall
from celeryflows.model.events import Event
from celeryflows.model.retries import Backoff
from celeryflows.model.runs import Status
from celeryflows.model.triggers import OnCron, OnEvent

__all__ = [
    "Backoff",
    "BoundExceeded",
    "ConfigurationError",
    "Context",
    "DeclarationError",
    "Event",
    "ExpressionError",
    "Flows",
    "FlowsError",
    "InvalidDuration",
    "InvalidEvent",
    "InvalidOutput",
    "Middleware",
    "NonRetriableError",
    "NondeterminismError",
    "NotStorable",
    "OnCron",
    "OnEvent",
    "RetryAfterError",
    "RunCall",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunTimeout",
    "SchemaMismatch",
    "Status",
    "StepCall",
    "StepError",
    "StepMisuse",
    "StepTimeout",
    "StoreError",
    "StoreMismatch",
    "StoreUnavailable",
    "UnknownFlow",
    "UnknownRun",
    "current_flows",
]
