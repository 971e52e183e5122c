"""What each HTTP door is given: the flows, who may come in, and how much."""

import zlib
from dataclasses import dataclass

from flask import Request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from celeryflows import Flows
from celeryflows.console.doors import DoorSettings
from celeryflows.console.keys import Keyhole
from flask_dashboard.bounds import Bounds


@dataclass(frozen=True, slots=True)
class Door:
    """One for all doors of a dashboard."""

    flows: Flows
    settings: DoorSettings
    keys: Keyhole
    bounds: Bounds

    def body(self, request: Request) -> bytes:
        """The body of a request, unpacked when it says that it is packed. Raises 413 Request Entity Too Large, or 400
        for what cannot be unpacked."""
        request.max_content_length = self.settings.max_body_bytes
        body = request.get_data(cache=False)
        if request.headers.get("Content-Encoding", "").lower() == "gzip":
            return unpacked(body, self.settings.max_body_bytes)
        return body


def unpacked(body: bytes, most: int) -> bytes:
    """What gzip packed, read no further than the bound."""
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(body, most + 1)
    except zlib.error:
        raise BadRequest("The body is not the gzip that it is said to be.") from None
    if len(found) > most:
        raise RequestEntityTooLarge
    if not reader.eof:
        raise BadRequest("The body's gzip has no end.")
    return found


def open_door(flows: Flows) -> Door:
    """Read the settings. Raises ConfigurationError; the store is not asked."""
    settings = flows.door_settings
    keys = Keyhole(lambda: flows.runtime, settings)
    return Door(flows, settings, keys, Bounds(settings.rates, settings.rate_storage))
