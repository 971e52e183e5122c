"""Celery's own unit tests of apps and tasks, from its source distribution, with our class in place of theirs."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import celery
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# What their tests import beyond what we need ourselves.
THEIRS = ("pytest", "pytest-click", "freezegun", "cryptography")
OURS_IN_PLACE = """
import celery, celery.app, celery.contrib.testing.app as testing
import celeryflows

for module in (celery, celery.app, testing):
    module.Celery = celeryflows.Celery
"""
SETTINGS = """[pytest]
python_classes = test_*
markers =
  sleepdeprived_patched_module
  masked_modules
  patched_environ
  patched_module
  celery
  flaky
  timeout
"""
# Their tests that cannot pass with our class, each with the reason.
CANNOT: dict[str, str] = {}


def pip(python: Path | str, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own: their tests and the plugins of ours disturb each other."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    found = folder / "bin" / "python"
    pip(found, "install", str(ROOT), f"celery=={celery.__version__}", *THEIRS)
    return found


@pytest.fixture(scope="module")
def suite(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their tests, beside a plugin that puts our class in place."""
    folder = tmp_path_factory.mktemp("celery")
    pip(python, "download", "--no-deps", "--no-binary", "celery", "-d", str(folder), f"celery=={celery.__version__}")
    (archive,) = folder.glob("celery-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (tests,) = folder.glob("celery-*/t")
    # Beside their package they would import it from here, not the installed one.
    tests.rename(folder / "t")
    (folder / "ours.py").write_text(OURS_IN_PLACE)
    (folder / "pytest.ini").write_text(SETTINGS)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_celerys_own_tests_of_apps_and_tasks_pass_with_our_class(python: Path, suite: Path) -> None:
    command = [str(python), "-m", "pytest", "-p", "ours", "-q", "-p", "no:cacheprovider", "t/unit/app", "t/unit/tasks"]
    ended = subprocess.run(command, cwd=suite, capture_output=True, text=True, timeout=1200)
    failed = set(re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE))
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None, ended.stdout[-3000:]
    assert int(passed[1]) > 2_000
    assert failed <= set(CANNOT), ended.stdout[-3000:]
