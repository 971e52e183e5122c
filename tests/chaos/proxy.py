"""A proxy of ours between workers and a server: it delays, holds what comes one way, and cuts."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK = 1 << 16


# A port of loopback, or the path of a socket.
Address = int | Path


class Proxy:
    """One address before another of its kind. `delay` is in seconds each way; while `holds_answers` none comes back."""

    def __init__(self, target: Address, path: Path | None = None) -> None:
        self.target = target
        self.path = path
        self.delay = 0.0
        self.holds_answers = False
        self.port = 0
        self._links: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Listen on the path, or on a free port."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Cut all and end."""
        self.holds_answers = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Meanwhile nothing comes back. The network returns afterwards, the connections over it do not."""
        self.holds_answers = True
        try:
            yield
        finally:
            self.cut()
            self._loop.call_soon_threadsafe(setattr, self, "holds_answers", False)

    def cut(self) -> None:
        """Cut every connection; new ones are let in."""

        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in list(self._links):
            with suppress(Exception):
                writer.transport.abort()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._abort()
        # What is cut ends by itself.
        if left := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(left, timeout=5))
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        if self.path is not None:
            return await asyncio.start_unix_server(self._accept, self.path)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await self._connect()
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
def running_proxy(target: Address, path: Path | None = None) -> Iterator[Proxy]:
    """A proxy of this block."""
    proxy = Proxy(target, path)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
