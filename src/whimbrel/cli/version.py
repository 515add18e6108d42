"""`whimbrel version` and `whimbrel --version`: what is installed, how it was built, which kernel it will use."""

import platform
from typing import Any

import click

from whimbrel.cli.flags import json_flag
from whimbrel.cli.report import print_json, print_table


@click.command("version")
@json_flag
def command(*, as_json: bool) -> None:
    """Print the version, the kernel in use and the build."""
    values = describe()
    if as_json:
        print_json(values)
        return
    print_table((name, "unknown" if value is None else value) for name, value in values.items())


def describe() -> dict[str, Any]:
    """Returns what is installed, by name; None stands for what is not known or not there.

    Raises:
        click.UsageError: `WHIMBREL_KERNEL` names a kernel that cannot run here.
    """
    from whimbrel import kernel
    from whimbrel.core import build

    try:
        isa = kernel.active_isa()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    extension = kernel.extension_build()
    return {
        "whimbrel": build.version(),
        "kernel": isa,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": build.commit(),
        "compiler": extension.compiler if extension else None,
        "built_for_python": extension.python if extension else None,
    }


def describe_briefly() -> str:
    """Returns what is installed on one line: `whimbrel 0.1.0 (kernel avx2; GCC 12.2.0, CPython 3.11.7; commit ...)`.

    Raises:
        click.UsageError: `WHIMBREL_KERNEL` names a kernel that cannot run here.
    """
    values = describe()
    built = (
        f"{values['compiler']}, Python {values['built_for_python']}"
        if values["compiler"]
        else "installed without the native extension"
    )
    commit = values["commit"] or "unknown"
    return f"whimbrel {values['whimbrel']} (kernel {values['kernel']}; {built}; commit {commit})"
