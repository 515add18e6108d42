"""What a user can name stands in the docs, as a heading or first in a row."""

import re
from collections.abc import Iterator

import click

from tests.docs.pages import entries
from tests.tidy.source_tree import files_like, text_of
from whimbrel.cli.__main__ import main
from whimbrel.core.settings import Settings
from whimbrel.wire.errors import PROTOCOL_STATUSES
from whimbrel.wire.model import ERRORS, OPERATIONS

METRIC = re.compile(r'(?:Counter|Gauge|Histogram|MetricFamily|add_gauge)\(\s*"(whimbrel_[a-z_]+)"')
# Flags that every command has, described once.
EVERYWHERE = {"--help", "--version"}


def flags_of(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Yields (command with its words, long flag) of a command and those below it."""
    for parameter in command.params:
        for flag in parameter.opts:
            if flag.startswith("--"):
                yield name, flag
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from flags_of(inner, f"{name} {word}")


def test_every_operation_is_documented():
    assert len(OPERATIONS) == 22
    assert set(OPERATIONS) - entries("docs/reference/") == set()


def test_every_error_code_is_documented():
    assert {*ERRORS, *PROTOCOL_STATUSES} - entries("docs/reference/") == set()


def test_every_setting_is_documented():
    documented = entries()
    missing = [info.variable for info in Settings.infos() if info.variable not in documented]
    assert missing == []


def test_every_command_and_flag_is_documented():
    flags = set(flags_of(main, "whimbrel"))
    commands = {name for name, _ in flags} - {"whimbrel"}
    documented = entries("docs/reference/")
    assert {"whimbrel serve", "whimbrel env", "whimbrel fsck", "whimbrel inspect"} <= commands
    assert commands - documented == set()
    assert {flag for _, flag in flags} - EVERYWHERE - documented == set()


def test_every_metric_is_documented():
    sources = files_like(".py", under="src/whimbrel")
    metrics = {name for path in sources for name in METRIC.findall(text_of(path))}
    documented = {entry.removesuffix("_total") for entry in entries()}
    assert len(metrics) >= 5
    assert {name.removesuffix("_total") for name in metrics} - documented == set()
