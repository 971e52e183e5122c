"""A TCP proxy of ours between workers and a server: it delays, holds what comes one way, and cuts."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CHUNK = 1 << 16


class Proxy:
    """One address before another. `delay` is in seconds each way; while `holds_answers` nothing comes back."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay = 0.0
        self.holds_answers = False
        self.port = 0
        self._links: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Cut all and end."""
        self.holds_answers = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Cut every connection; new ones are let in."""

        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in list(self._links):
            with suppress(Exception):
                writer.transport.abort()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._abort()
        # What is cut ends by itself.
        if left := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(left, timeout=5))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        links = {writer, there_writer}
        self._links |= links
        ends = [
            asyncio.ensure_future(self._pump(reader, there_writer, self._nothing)),
            asyncio.ensure_future(self._pump(there_reader, writer, self._held)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            for link in links:
                with suppress(Exception):
                    link.transport.abort()
            self._links -= links

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: Callable[[], bool]) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                while held():
                    await asyncio.sleep(0.02)
                writer.write(chunk)
                await writer.drain()

    def _held(self) -> bool:
        return self.holds_answers

    def _nothing(self) -> bool:
        return False


@contextmanager
def running_proxy(target_port: int) -> Iterator[Proxy]:
    """A proxy of this block."""
    proxy = Proxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
