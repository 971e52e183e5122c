"""The doctor: what is checked, causes before their effects. Each finding that is not well names its remedy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from celeryflows.console.crew import Crew
from celeryflows.console.doctor_broker import BrokerFacts, check_broker
from celeryflows.console.doctor_store import StoreFacts, check_store, check_work, look_at
from celeryflows.console.findings import Finding, Level, bad, ok, warn
from celeryflows.console.workers import WorkerSummary
from celeryflows.engine.settings import Settings
from celeryflows.store.database import Store


class Mode(StrEnum):
    """How tasks run."""

    WORKERS = "workers"
    EAGER = "eager"


@dataclass(frozen=True, slots=True)
class Patient:
    """All that the doctor is told. `store` or `settings` are None when they cannot be used, `problems` says why.

    `look_at_crew` is called when the store can be used."""

    versions: Mapping[str, str]
    mode: Mode
    flows: int
    settings: Settings | None
    store: Store | None
    broker: BrokerFacts
    look_at_crew: Callable[[], Crew]
    problems: Sequence[Finding] = ()


def examine(patient: Patient) -> list[Finding]:
    """Every check, those that cannot be done left out."""
    facts = look_at(patient.store, patient.settings or Settings()) if patient.store is not None else None
    usable = facts if facts is not None and facts.usable else None
    return [
        ok("versions", ", ".join(f"{name} {version}" for name, version in patient.versions.items())),
        *_check_app(patient),
        *patient.problems,
        *(check_store(facts) if facts is not None else ()),
        *check_broker(patient.broker, facts),
        *(check_work(usable, _deaf(patient)) if usable is not None else ()),
    ]


def _deaf(patient: Patient) -> list[WorkerSummary]:
    """Workers that beat and take nothing."""
    if patient.mode is Mode.EAGER or patient.settings is None:
        return []
    return [hand.worker for hand in patient.look_at_crew().hands if hand.deaf]


def is_bad(findings: Sequence[Finding]) -> bool:
    """True when something has to be mended."""
    return any(finding.level is Level.BAD for finding in findings)


def _check_app(patient: Patient) -> list[Finding]:
    found = []
    if patient.settings is not None:
        found.append(ok("settings", "every flows_ setting is known and usable"))
    if patient.flows:
        found.append(ok("flows", f"{patient.flows} declared by this app"))
    else:
        remedy = "Import the modules that declare them (include=, imports=, autodiscover_tasks), if there are any."
        found.append(warn("flows", "none declared by this app", remedy))
    if patient.mode is Mode.EAGER:
        remedy = "Unset task_always_eager outside tests."
        found.append(warn("task_always_eager", "calls run in place, in memory: nothing of them is durable", remedy))
    return found


__all__ = [
    "BrokerFacts",
    "Finding",
    "Level",
    "Mode",
    "Patient",
    "StoreFacts",
    "bad",
    "examine",
    "is_bad",
    "ok",
    "warn",
]
