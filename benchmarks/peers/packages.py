"""The peers' own packages, in an environment of their own below .venv: never in the project's.

Each peer's are installed when it is first wanted. Whoever cannot be installed is missing, with the reason."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv" / "peers"
PYTHON = HOME / "bin" / "python"
NODE_BIN = HOME / "node" / "node_modules" / ".bin"


class PeerMissing(Exception):
    """The peer cannot be had here; the message says why."""


def install(python: tuple[str, ...], node: tuple[str, ...]) -> None:
    """Install what is not there yet. Raises PeerMissing."""
    stamp = HOME / "installed"
    done = set(stamp.read_text().splitlines()) if stamp.exists() else set()
    wanted = [*python, *node]
    if done.issuperset(wanted):
        return
    if node and shutil.which("npm") is None:
        raise PeerMissing("npm is not on PATH")
    if not PYTHON.exists():
        _run(sys.executable, "-m", "venv", str(HOME))
    if python:
        _run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *python)
    if node:
        _run("npm", "install", "--silent", "--no-save", "--prefix", str(NODE_BIN.parents[1]), *node)
    stamp.write_text("\n".join(sorted(done.union(wanted))) + "\n")


def versions(python: tuple[str, ...], node: tuple[str, ...]) -> str:
    """What is installed of a peer, with versions."""
    names = [re.split(r"[\[<>=]", requirement)[0] for requirement in python]
    code = (
        "import importlib.metadata as m, sys; print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]), sep=', ')"
    )
    found = [_run(str(PYTHON), "-c", code, *names).strip()]
    for package in node:
        name = package.rpartition("@")[0]
        found.append(f"{name} {json.loads((NODE_BIN.parent / name / 'package.json').read_text())['version']}")
    return ", ".join(found)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise PeerMissing(f"`{' '.join(command[-4:])}` failed: {' '.join(said)}")
    return done.stdout
