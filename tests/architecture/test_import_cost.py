"""What an app pays for `import celeryflows`: nothing that only a terminal, a migration or an ORM needs."""

import json
import subprocess
import sys

HEAVY = ("alembic", "mako", "prompt_toolkit", "pygments", "rich", "typer", "sqlalchemy.orm", "flask", "pydantic")
SHOW = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


def loaded_by(code: str) -> list[str]:
    found = subprocess.run([sys.executable, "-c", f"{code}\n{SHOW}"], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_an_app_loads_no_terminal_toolkit_no_migrations_and_no_orm() -> None:
    assert loaded_by("import celeryflows") == []


def test_the_commands_that_celery_finds_load_nothing_until_one_is_asked_for() -> None:
    assert loaded_by("import celeryflows.cli") == []


def test_what_is_loaded_would_be_seen() -> None:
    assert "rich" in loaded_by("import celeryflows.cli.output")


def test_the_expression_library_keeps_its_own_command_line() -> None:
    code = "import celeryflows, cel.cli; assert hasattr(cel.cli, 'main') or len(dir(cel.cli)) > 20"
    assert "prompt_toolkit" in loaded_by(code)
