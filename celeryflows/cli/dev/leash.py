"""Runs a command that ends with the process that started it: `python leash.py PARENT SIGNAL COMMAND...`.

Imports nothing of ours, so that it starts at once. Linux alone can do this; elsewhere the command simply runs."""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, signal_number: str, *command: str) -> None:
    """Put the leash on, then become the command under the same process id."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent ended first")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
