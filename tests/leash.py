"""Runs a command that ends with the process that started it: `python leash.py PARENT USER SIGNAL COMMAND...`.

A preexec_fn could not: it forks under threads. The command keeps this process's id."""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Change to the named user for good."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with(parent: int, signal_number: int) -> None:
    """Have the kernel send the signal when the parent dies. Linux alone can; elsewhere teardown has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent died first")


def main(parent: str, user: str, signal_number: str, *command: str) -> None:
    # First the user, then the leash: a change of user takes the leash off.
    if user:
        become(user)
    die_with(int(parent), int(signal_number))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
