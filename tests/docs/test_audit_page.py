"""The page of the audit log names every command that gets past it."""

import click

from tests.tidy.source_tree import ROOT
from whimbrel.cli.__main__ import COMMANDS, LazyCommands


def leaves(command):
    if isinstance(command, click.Group):
        return [leaf for each in command.commands.values() for leaf in leaves(each)]
    return [command]


def test_every_command_that_opens_a_store_is_named():
    page = (ROOT / "docs" / "operations" / "audit.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## What bypasses it")
    section, _, _ = section.partition("\n## ")
    opening = {
        name
        for name in COMMANDS
        for leaf in leaves(LazyCommands()[name])
        if any(option.name == "store" for option in leaf.params)
    }
    assert {"iam", "kms", "fsck", "key"} <= opening
    missing = {name for name in opening if f" {name}" not in section and f"`{name}`" not in section}
    assert missing == set()
