"""The way around: the pages in the order in which they are needed."""

from dataclasses import dataclass

from flask import current_app, request, url_for

# Each with its view, its icon, and the views that belong to it; None is a line between.
PLACES: tuple[tuple[str, str, str, tuple[str, ...]] | None, ...] = (
    ("Runs", "list_runs", "runs", ("show_run",)),
    ("Events", "list_events", "events", ("show_event",)),
    ("Flows", "list_flows", "flows", ("show_flow",)),
    None,
    ("Failures", "list_failures", "failures", ()),
    ("Metrics", "show_metrics", "metrics", ()),
    ("Limits", "list_limits", "limits", ()),
    ("Workers", "list_workers", "workers", ()),
    ("Replays", "list_replays", "replays", ()),
    ("Alerts", "list_alerts", "alerts", ()),
    ("Audit", "list_audit", "audit", ()),
    None,
    ("Send event", "write_event", "send", ()),
)


@dataclass(frozen=True, slots=True)
class Place:
    """One way. `here`: the page at hand is there."""

    label: str
    url: str
    icon: str
    here: bool


def navigation() -> list[Place | None]:
    """The ways that exist."""
    at = (request.endpoint or "").rpartition(".")
    found: list[Place | None] = []
    for place in PLACES:
        if place is None:
            found.append(None)
            continue
        label, view, icon, more = place
        if f"{at[0]}.{view}" in current_app.view_functions:
            found.append(Place(label, url_for(f".{view}"), icon, at[2] in (view, *more)))
    return found
