"""What commands say: results to standard output, errors with a hint to standard error, progress on a terminal.

Exit codes are a stable contract, tabled in `docs/reference/cli.md`.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import click

from whimbrel.core.errors import (
    KeyUnavailableError,
    Kind,
    KmsNotFoundError,
    NotFoundError,
    StoreRefusedError,
    WhimbrelError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1  # damage was found, or something broke that has no code of its own
    USAGE = 2  # a flag, setting or argument is wrong
    REFUSED = 3  # credentials, address or store cannot be used as asked
    NOT_FOUND = 4
    UNAVAILABLE = 5  # store or server failed, or the port is taken; a retry may succeed
    INTERRUPTED = 130


_CODES = {
    Kind.INVALID: ExitCode.USAGE,
    Kind.DENIED: ExitCode.REFUSED,
    Kind.NOT_FOUND: ExitCode.NOT_FOUND,
    Kind.UNAVAILABLE: ExitCode.UNAVAILABLE,
    Kind.TIMEOUT: ExitCode.UNAVAILABLE,
    Kind.THROTTLED: ExitCode.UNAVAILABLE,
}

_HINTS = {
    Kind.NOT_FOUND: "check the name, and that --store names the right store",
    Kind.UNAVAILABLE: "check that the store can be reached, then try again",
    Kind.CORRUPT: "run `whimbrel fsck` to see everything that is damaged",
}

_KEY_HINT = "docs/operations/encryption.md says what keys are needed, docs/reference/kms.md what those of a KMS are"


def message_of(error: WhimbrelError) -> str:
    """Returns what is wrong, for people; the engine's own errors of this kind carry just the name."""
    if isinstance(error, NotFoundError):
        return f"the store has nothing of this name. name=`{error}`"
    return str(error)


def exit_code_of(error: WhimbrelError) -> ExitCode:
    """Returns the exit code for an error of ours."""
    if isinstance(error, StoreRefusedError):
        return ExitCode.REFUSED
    if isinstance(error, KmsNotFoundError):
        return ExitCode.NOT_FOUND
    if isinstance(error, KeyUnavailableError):
        may_pass = error.kind is Kind.UNAVAILABLE and not error.is_lasting
        return ExitCode.UNAVAILABLE if may_pass else ExitCode.REFUSED
    return _CODES.get(error.kind, ExitCode.FAILED)


def hint_of(error: WhimbrelError) -> str:
    """Returns what to do about an error; never empty."""
    if isinstance(error, StoreRefusedError) and not error.hint:
        return "check --store, its settings and its credentials; docs/operations/stores.md says what it needs"
    if isinstance(error, KeyUnavailableError) and not error.hint:
        return _KEY_HINT
    hint: str = getattr(error, "hint", "") or _HINTS.get(error.kind, "")
    return hint or "see docs/operations/running.md"


def print_error(message: str, hint: str, *, as_json: bool = False) -> None:
    """Writes an error and what to do about it to standard error."""
    if as_json:
        click.echo(json.dumps({"error": {"message": message, "hint": hint}}), err=True)
        return
    click.echo(f"{paint('error:', 'red')} {message}", err=True)
    click.echo(f"{paint('hint:', 'yellow')} {hint}", err=True)


def print_json(value: Any) -> None:
    """Writes one JSON document as the command's result."""
    click.echo(json.dumps(value, ensure_ascii=False))


def uses_color(stream: Any) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(stream.isatty())


def paint(text: str, color: str) -> str:
    """Colours a text for standard error when that is a terminal that wants colours."""
    return click.style(text, fg=color, bold=True) if uses_color(sys.stderr) else text


@contextmanager
def progress(label: str, *, length: int | None = None, hidden: bool = False) -> Iterator[Any]:
    """Shows a bar on standard error while the block runs, when that is a terminal.

    Args:
        label: what is going on.
        length: steps to go; None when unknown.
        hidden: shows nothing, as with `--json`.

    Yields:
        An object with `update(step_count)`.
    """
    bar: Any = click.progressbar(
        length=length or 0,
        label=label,
        file=sys.stderr,
        hidden=hidden or not sys.stderr.isatty(),
        color=uses_color(sys.stderr),
    )
    with bar as shown:
        yield shown


def format_bytes(count: float) -> str:
    """Writes a size for people: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def print_none(what: str) -> None:
    """Says on standard error that a list is empty, so that nobody waits for it, and nothing that reads it stumbles."""
    click.echo(f"there are no {what}", err=True)


def print_table(rows: Iterable[tuple[str, object]]) -> None:
    """Writes names and values in two columns."""
    pairs = [(name, str(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {value}")
