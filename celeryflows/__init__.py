"""Durable flows for Celery: events trigger functions made of memoized steps that survive anything."""

from celeryflows.app import Flows, current_flows
from celeryflows.celery_bridge.celery_class import Celery
from celeryflows.celery_bridge.shared import shared_flow
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
    InvokeError,
    InvokeTimeout,
    NondeterminismError,
    NonRetriableError,
    NotStorable,
    PayloadLocked,
    RerunRefused,
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
    UnknownEvent,
    UnknownFlow,
    UnknownRun,
)
from celeryflows.handle import ReplayHandle, RunHandle
from celeryflows.middleware import Middleware, RunCall, StepCall
from celeryflows.model.cancels import CancelOn, Timeouts
from celeryflows.model.events import Event
from celeryflows.model.limits import Batch, Concurrency, Debounce, Priority, RateLimit, Singleton, Throttle
from celeryflows.model.retries import Backoff
from celeryflows.model.runs import Status
from celeryflows.model.signals import Signal
from celeryflows.model.triggers import OnCron, OnEvent

__all__ = [
    "Backoff",
    "Batch",
    "BoundExceeded",
    "CancelOn",
    "Celery",
    "Concurrency",
    "ConfigurationError",
    "Context",
    "Debounce",
    "DeclarationError",
    "Event",
    "ExpressionError",
    "Flows",
    "FlowsError",
    "InvalidDuration",
    "InvalidEvent",
    "InvalidOutput",
    "InvokeError",
    "InvokeTimeout",
    "Middleware",
    "NonRetriableError",
    "NondeterminismError",
    "NotStorable",
    "OnCron",
    "OnEvent",
    "PayloadLocked",
    "Priority",
    "RateLimit",
    "ReplayHandle",
    "RerunRefused",
    "RetryAfterError",
    "RunCall",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunTimeout",
    "SchemaMismatch",
    "Signal",
    "Singleton",
    "Status",
    "StepCall",
    "StepError",
    "StepMisuse",
    "StepTimeout",
    "StoreError",
    "StoreMismatch",
    "StoreUnavailable",
    "Throttle",
    "Timeouts",
    "UnknownEvent",
    "UnknownFlow",
    "UnknownRun",
    "current_flows",
    "shared_flow",
]
