"""Assignments of environment variables, quoted for the shell that will read them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

_PLAIN = re.compile(r"[A-Za-z0-9_./:=+@%,-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quote_bash(value: str) -> str:
    """Quotes for bash, zsh and any POSIX shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def quote_fish(value: str) -> str:
    """Quotes for fish, where a backslash counts inside single quotes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_powershell(value: str) -> str:
    """Quotes for PowerShell, which takes typographic single quotes for quotes, too."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value) + "'"


def quote_dotenv(value: str) -> str:
    """Quotes for `.env` files; leaves plain values bare, as Docker reads quotes literally."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'"{escaped}"'


def _bash(values: Mapping[str, str], removed: Sequence[str]) -> list[str]:
    lines = [f"export {name}={quote_bash(value)}" for name, value in values.items()]
    return [*lines, f"unset {' '.join(removed)}"] if removed else lines


def _fish(values: Mapping[str, str], removed: Sequence[str]) -> list[str]:
    lines = [f"set -gx {name} {quote_fish(value)}" for name, value in values.items()]
    return [*lines, *(f"set -e {name}" for name in removed)]


def _powershell(values: Mapping[str, str], removed: Sequence[str]) -> list[str]:
    lines = [f"$env:{name} = {quote_powershell(value)}" for name, value in values.items()]
    return [*lines, *(f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in removed)]


def _dotenv(values: Mapping[str, str], removed: Sequence[str]) -> list[str]:
    lines = [f"{name}={quote_dotenv(value)}" for name, value in values.items()]
    # Such a file cannot unset a variable, and an empty AWS_PROFILE would name a profile.
    return [*lines, *(f"# unset {name}" for name in removed)]


_SHELLS: Final[dict[str, Callable[[Mapping[str, str], Sequence[str]], list[str]]]] = {
    "bash": _bash,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}
SHELLS: Final = tuple(_SHELLS)


def format_environment(shell: str, values: Mapping[str, str], *, removed: Sequence[str]) -> str:
    """Returns a script that sets some variables and unsets others.

    Args:
        shell: one of `SHELLS`.
        values: what to set.
        removed: what to unset.

    Raises:
        ValueError: a value holds a control character, which no quoting carries everywhere.
    """
    for name, value in values.items():
        if _CONTROL.search(value):
            raise ValueError(f"the value of {name} holds a control character")
    return "\n".join(_SHELLS[shell](values, removed)) + "\n"
