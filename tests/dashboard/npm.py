"""npm packages for tests: installed once into a folder of the temporary files, kept between runs."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

KEPT = Path(tempfile.gettempdir()) / f"celeryflows-npm-{os.getuid()}"


def npm_package(name: str, version: str) -> Path:
    """A folder in which node finds the package. Without node the test is skipped, and fails in CI."""
    if not (shutil.which("node") and shutil.which("npm")):
        _without("node and npm are not on PATH: on Debian, apt-get install nodejs npm")
    folder = KEPT / f"{name}-{version}"
    if not folder.exists():
        _install(name, version, folder)
    return folder


def _install(name: str, version: str, folder: Path) -> None:
    KEPT.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as made:
        words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", f"{name}@{version}"]
        done = subprocess.run([*words, "--prefix", made], cwd=made, capture_output=True, text=True)
        if done.returncode:
            _without(f"npm cannot install {name}@{version}: {done.stderr[-500:]}")
        # Two processes may install at once; the one that is later keeps the other's.
        if not folder.exists():
            os.rename(Path(made), folder)
            os.mkdir(made)


def run_module(folder: Path, script: str, *words: str, env: dict[str, str] | None = None) -> str:
    """What an ES module prints, run by node beside the packages of the folder. Its last words when it fails."""
    command = ["node", "--input-type=module", "--eval", script, "--", *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _without(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
