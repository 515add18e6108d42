"""Runs a program under the rules of a systemd unit that break programs, without systemd running.

    tools/run_confined.py UNIT -- COMMAND...

Takes over the unit's SystemCallFilter, MemoryDenyWriteExecute and NoNewPrivileges, for this process and all it starts;
then becomes COMMAND. The system calls of each group are those that `systemd-analyze` of this machine names. Needs Linux
6.3 or newer, libseccomp and pyseccomp; works without being root.
"""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

import pyseccomp

PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1


def main() -> None:
    """Confines this process and becomes the command."""
    unit = Path(sys.argv[1]).read_text(encoding="utf-8")
    command = sys.argv[sys.argv.index("--") + 1 :]
    allowed = allowed_calls(values_of(unit, "SystemCallFilter"))
    refuse_to_gain(PR_SET_NO_NEW_PRIVS)
    refuse_to_gain(PR_SET_MDWE)
    confine(allowed)
    os.execvp(command[0], command)


def values_of(unit: str, name: str) -> list[str]:
    """Returns the values of a setting that may stand several times, in order."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def allowed_calls(filters: list[str]) -> set[str]:
    """Returns the system calls that lines of filters let through, each line changing what the ones before it say.

    Raises:
        ValueError: the first line is not a list of what is allowed.
    """
    if not filters or filters[0].startswith("~"):
        raise ValueError("the first SystemCallFilter must list what is allowed")
    allowed = calls_of("@default")
    for line in filters:
        calls = {call for word in line.removeprefix("~").split() for call in calls_of(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def calls_of(word: str) -> set[str]:
    """Returns a system call, or all that a group such as `@system-service` holds, groups in it included."""
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", word],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    words = [line.strip() for line in listed.splitlines()[1:]]
    return {call for each in words if each and not each.startswith("#") for call in calls_of(each)}


def refuse_to_gain(option: int) -> None:
    """Gives a right up for good.

    Raises:
        OSError: the system does not know how.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(allowed: set[str]) -> None:
    """Lets only some system calls through; the others fail with EPERM."""
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(errno.EPERM))
    for call in allowed:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call)
        if number >= 0:  # groups name calls of other processors as well
            rules.add_rule(pyseccomp.ALLOW, number)
    rules.load()


if __name__ == "__main__":
    main()
