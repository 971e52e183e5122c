"""Moments and lengths of time: UTC in the text of a page, the reader's own zone once a script has seen it."""

from datetime import UTC, datetime, timedelta

from markupsafe import Markup

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def when(moment: datetime | None, form: str = "when") -> Markup:
    """A moment; `form`: "when" (today the time alone), "clock" with milliseconds."""
    if moment is None:
        return Markup("")
    utc = moment.astimezone(UTC)
    text = utc.strftime("%Y-%m-%d %H:%M:%S") if form == "when" else utc.strftime("%H:%M:%S.%f")[:-3]
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(utc.isoformat(), form, text)


def since(moment: datetime | None) -> Markup:
    """How long ago, counting on while the page is open."""
    if moment is None:
        return Markup("")
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" data-form="since">since {}</time>').format(
        utc.isoformat(), utc.strftime("%H:%M:%S")
    )


def length(span: timedelta | None) -> str:
    """A length of time in at most two units: 12 ms, 3.4 s, 2 min 5 s, 3 h 20 min, 4 d 6 h."""
    if span is None:
        return ""
    seconds = max(0.0, span.total_seconds())
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 else f"{seconds * 1000:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, below, smaller in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name} {rest} {smaller}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"
