"""The engine's settings with their defaults: bounds, windows and recovery times."""

from dataclasses import dataclass

from celeryflows.durations import DAY, SECOND

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Every bound and window; as Celery settings each has the prefix `flows_`. Bytes, counts and microseconds.

    `max_bundle`: runs that one message may carry. `record_inputs`: what steps are called with is recorded with them,
    for people to look at.
    """

    max_event_bytes: int = 512 * KIB
    max_events: int = 5_000
    max_value_bytes: int = 4 * MIB
    max_run_bytes: int = 32 * MIB
    max_steps: int = 1_000
    max_branches: int = 1_000
    max_wait: int = 366 * DAY
    dedupe: int = 7 * DAY
    beat_every: int = 5 * SECOND
    dead_after: int = 20 * SECOND
    leader_lease: int = 10 * SECOND
    max_lost: int = 10
    fan_out_at_once: int = 100
    fan_out_piece: int = 200
    lookback_candidates: int = 1_000
    retention: int = 0
    audit_retention: int = 365 * DAY
    max_bundle: int = 8
    record_inputs: bool = False
