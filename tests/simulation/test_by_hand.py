"""`make simulate` plays its portions and, asked again, only those that it has not played."""

import subprocess
import sys
from pathlib import Path


def simulate(kept: Path, worlds: int) -> str:
    words = ["--first", "7", "--portion", "10", "--worlds", str(worlds), "--processes", "1", "--kept", str(kept)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_worlds_by_hand_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    assert "1 of 1 portions played, 0 failed" in simulate(tmp_path, 10)
    more = simulate(tmp_path, 20)
    assert "seeds 7 to 8, 10 worlds each: 1 were passed before" in more
    assert "seed 8: 1 of 1 portions played, 0 failed" in more
