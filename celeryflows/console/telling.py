"""Sending one message to one place, by Apprise."""

from collections.abc import Sequence

from celeryflows.errors import ConfigurationError, FlowsError


class NotSent(FlowsError):
    """A message that its place did not take."""


def place_of(address: str) -> str:
    """An address without what is secret."""
    return f"{address.partition('://')[0]}://…"


def send(address: str, title: str, lines: Sequence[str]) -> None:
    """Send one message. Raises NotSent when its place does not take it, ConfigurationError without Apprise."""
    try:
        import apprise
    except ImportError:
        raise ConfigurationError("Alerts are sent by Apprise: pip install 'celeryflows[alerts]'") from None
    place = place_of(address)
    door = apprise.Apprise()
    if not door.add(address):
        raise NotSent(f"Apprise knows no such address as {place}. Look at flows_alerts.")
    if not door.notify(title=title, body="\n".join(lines), body_format=apprise.NotifyFormat.TEXT):
        raise NotSent(f"{place} did not take the message; the log has the reason.")
