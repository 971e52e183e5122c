"""The faults, each a function of one shape: it does its harm to an arena, undoes it, and comes back."""

from tests.chaos.faults import broker, deploys, messages, stores, workers
from tests.chaos.faults.shape import Fault, known

__all__ = ["Fault", "broker", "deploys", "known", "messages", "stores", "workers"]
