"""Workers whose main loop hangs when told to, and which go on beating: `celery -A tests.celery.apps.hanging`."""

from typing import Any

from celery.worker.control import control_command

from tests.celery.apps.sheet import pass_gate, witness
from tests.celery.apps.works import app as app


@control_command(name="hang", args=[("gate", str)])
def hang(state: Any, gate: str) -> None:
    """Nothing of the broker is heard in this process until the gate opens."""
    witness("it", "hangs")
    pass_gate(gate)
