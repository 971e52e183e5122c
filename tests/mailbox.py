"""A mail server on loopback that keeps what it is sent: as much of SMTP as a client without login needs."""

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.receiving import serving


class Mailbox(ThreadingTCPServer):
    """Mails in the order in which they came; `refuses` so many at first, as a server that is busy."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[EmailMessage] = []
        self.refuses = 0

    @property
    def address(self) -> str:
        """Where Apprise sends to."""
        options = "from=alerts@shop.example&to=ann@shop.example&mode=insecure"
        return f"mailto://127.0.0.1:{self.server_address[1]}/?{options}"


class _Session(StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self._say(220, "mailbox")
        while line := self.rfile.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"DATA":
                self._take()
            elif verb == b"QUIT":
                return self._say(221, "bye")
            else:
                self._say(250, "yes")
        return None

    def _take(self) -> None:
        self._say(354, "go on")
        lines = []
        while (line := self.rfile.readline()).rstrip(b"\r\n") != b".":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if self.server.refuses > 0:
            self.server.refuses -= 1
            return self._say(451, "busy")
        found = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.server.mails.append(found)
        return self._say(250, "kept")

    def _say(self, code: int, words: str) -> None:
        self.wfile.write(f"{code} {words}\r\n".encode())


@contextmanager
def running_mailbox() -> Iterator[Mailbox]:
    """A mail server for the block."""
    with serving(Mailbox()) as server:
        yield server
