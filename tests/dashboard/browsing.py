"""A browser, and a dashboard that it looks at: Debian's Chromium, driven by Playwright, over real HTTP."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from waitress import create_server

from flask_dashboard import create_app

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 15.0


class BrowserMissing(RuntimeError):
    """No Chromium is here; the message says how to get one."""


def chromium() -> str:
    """The path of a Chromium. Raises BrowserMissing."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise BrowserMissing("no Chromium on PATH: apt-get install chromium")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for the block."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS, env={**os.environ, "TZ": "UTC"})
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(flows: Any) -> Iterator[str]:
    """The dashboard of these flows on a port of this host; its address."""
    server = create_server(create_app(flows), host="127.0.0.1", port=0, server_name="127.0.0.1", threads=4)
    thread = threading.Thread(target=server.run, name="dashboard", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.task_dispatcher.shutdown()
        server.close()
        thread.join(timeout=10)


class Reader:
    """Somebody at the pages. Whatever a page complains of, or a script that runs where none should, is remembered."""

    def __init__(self, browser: Browser, address: str, *, theme: str = "light", width: int = 1280) -> None:
        self._context = browser.new_context(
            base_url=address, color_scheme=theme, viewport={"width": width, "height": 900}, timezone_id="UTC"
        )
        self._context.set_default_timeout(SECONDS * 1000)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.type, message.text))

    def open(self, path: str) -> Page:
        """Go to a page."""
        self.page.goto(path)
        return self.page

    def close(self) -> None:
        """Leave."""
        self._context.close()

    def _heard(self, kind: str, text: str) -> None:
        # An answer of 4xx is told on the console too: those are asked for on purpose.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(text)
