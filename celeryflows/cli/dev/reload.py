"""Tells when the code changed. Needs the package watchfiles; without it nothing is reloaded."""

import threading
from pathlib import Path


class CodeWatch:
    """Watches the Python files below a folder in a thread; `why_not` says why it does not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.why_not = ""
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="celeryflows-reload", daemon=True)

    def start(self) -> None:
        """Begin, if it can be done here."""
        try:
            import watchfiles  # noqa: F401
        except ImportError:
            self.why_not = "pip install 'celeryflows[dev]' for reload"
            return
        self._thread.start()

    def changed(self) -> list[str]:
        """The files that changed since the last look, by their path below the folder."""
        with self._lock:
            found, self._changed = sorted(self._changed), set()
        return found

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _watch(self) -> None:
        from watchfiles import PythonFilter, watch

        try:
            for changes in watch(self.folder, watch_filter=PythonFilter(), stop_event=self._stop, rust_timeout=500):
                with self._lock:
                    self._changed |= {self._short(path) for _, path in changes}
        except OSError as error:
            self.why_not = f"the folder cannot be watched: {error}"

    def _short(self, path: str) -> str:
        found = Path(path)
        return str(found.relative_to(self.folder)) if found.is_relative_to(self.folder) else path
