"""What is written on a page can be read by those who see little: 4.5 to 1 at least, as WCAG 2 AA asks of small text."""

import re
from pathlib import Path

import pytest

import flask_dashboard

SHEET = (Path(flask_dashboard.__file__).parent / "static" / "tokens.css").read_text()
WORDS = ("text", "soft", "faint", "accent", "completed", "failed", "running", "queued", "suspended", "scheduled")
WORDS += ("cancelled", "skipped", "code-key", "code-text", "code-number", "code-word")
THEMES = {
    "light": SHEET[: SHEET.index('[data-theme="dark"]')],
    "dark": SHEET[SHEET.index('[data-theme="dark"]') : SHEET.index("@media")],
    "system": SHEET[SHEET.index("@media") :],
}


def light(colour: str) -> float:
    """The relative luminance of a colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_of_words_is_read_on_every_ground(theme):
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", THEMES[theme]))
    found = {(word, ground): contrast(colours[word], colours[ground]) for word in WORDS for ground in ("bg", "panel")}
    assert {pair: round(ratio, 2) for pair, ratio in found.items() if ratio < 4.5} == {}
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
