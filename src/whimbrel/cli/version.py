"""`whimbrel version`: what is installed, and which kernel it will use."""

import platform

import click

from whimbrel.cli.flags import json_flag
from whimbrel.cli.report import print_json, print_table


@click.command("version")
@json_flag
def command(*, as_json: bool) -> None:
    """Print the version and the kernel in use."""
    from importlib.metadata import version

    from whimbrel import kernel

    values = {
        "whimbrel": version("whimbrel"),
        "kernel": kernel.active_isa(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_json:
        print_json(values)
        return
    print_table(values.items())
