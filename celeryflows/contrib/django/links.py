"""Links into the dashboard, for the admin and templates of the project."""

from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def dashboard_url(path: str = "") -> str | None:
    """The URL of a page, such as `dashboard_url("runs")`; None when the dashboard is not in the project's URLs."""
    try:
        found: str = reverse("celeryflows:dashboard", args=[path])
    except NoReverseMatch:
        return None
    return found


def run_link(run_id: str, text: str | None = None) -> str | SafeString:
    """A link to a run's page as HTML, by the id unless there is a `text`; the plain text without a dashboard."""
    url = dashboard_url(f"runs/{run_id}") if run_id else None
    return format_html('<a href="{}">{}</a>', url, text or run_id) if url is not None else text or run_id
