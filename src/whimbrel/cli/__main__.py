"""Entry point of the `whimbrel` command: finds the subcommand, and turns errors into a message and an exit code."""

import importlib
import itertools
import keyword
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, Final

import click

from whimbrel.cli.report import ExitCode, exit_code_of, hint_of, message_of, print_error
from whimbrel.cli.streams import discard_output, open_standard_streams
from whimbrel.core.errors import WhimbrelError

# Name and one line each, so that `whimbrel --help` imports none of them.
COMMANDS: Final = {
    "serve": "Serve a store over HTTP.",
    "health": "Ask a server whether it serves.",
    "env": "Print variables that point AWS tools at the server.",
    "run": "Run a command whose AWS clients talk to Whimbrel.",
    "put": "Embed texts, files or folders, and put them into an index.",
    "query": "Search an index for what a text means.",
    "vectors": "Count, find, search, change and delete vectors of a running server.",
    "index": "Tend the indexes of a store: flush, compact, collect garbage.",
    "import": "Import files or objects into an index.",
    "export": "Export an index to a file or object.",
    "inspect": "Show what an index, a bucket or a store consists of.",
    "recall": "Measure how much of what there is to find queries of an index find.",
    "explain": "Answer one query over a store and show what that took.",
    "warm": "Fetch what queries of an index read into the cache directory.",
    "fork": "Make an index of another one, or of a snapshot, without copying its vectors.",
    "snapshot": "Make, list or delete snapshots of an index, or restore the index to one.",
    "iam": "Manage users, access keys, roles, policies and accounts.",
    "policy": "Check policies, and see what they would decide and why.",
    "fsck": "Check everything in a store against its checksums and invariants.",
    "key": "Make master keys, show which one a store needs, and change to another.",
    "kms": "Make, disable and destroy keys for encryption with aws:kms.",
    "version": "Print the version, the kernel in use and the build.",
}


class LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        """Imports the module of a command."""
        if name not in COMMANDS:
            raise KeyError(name)
        module = f"{name}_" if keyword.iskeyword(name) else name  # `import` is no name of a module
        command: click.Command = importlib.import_module(f"whimbrel.cli.{module}").command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        """Refuses: the table above is all there is."""
        raise TypeError(name)

    def __delitem__(self, name: str) -> None:
        """Refuses as well."""
        raise TypeError(name)

    def __iter__(self) -> Iterator[str]:
        """Yields the names in the order of the table."""
        return iter(COMMANDS)

    def __len__(self) -> int:
        """Returns how many commands there are."""
        return len(COMMANDS)


class LazyGroup(click.Group):
    """The command line: imports a command's module when it runs, and turns errors into hints and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands' names in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Runs the command line and exits with its code."""
        open_standard_streams()
        arguments = sys.argv[1:] if args is None else list(args)
        own = itertools.takewhile(lambda argument: argument != "--", arguments)
        sys.exit(self._run(arguments, as_json="--json" in own))

    def _run(self, arguments: list[str], *, as_json: bool) -> int:
        try:
            result = super().main(arguments, prog_name="whimbrel", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return ExitCode.USAGE
        except click.ClickException as error:
            hint = "run it with --help to see what it takes"
            print_error(error.format_message(), hint, as_json=as_json)
            return ExitCode.USAGE
        except WhimbrelError as error:
            print_error(message_of(error), hint_of(error), as_json=as_json)
            return exit_code_of(error)
        except (KeyboardInterrupt, click.exceptions.Abort):
            return ExitCode.INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough; the interpreter must not complain about the rest either.
            discard_output()
            return ExitCode.OK
        return result if isinstance(result, int) else ExitCode.OK


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if not value or context.resilient_parsing:
        return
    from whimbrel.cli.version import describe_briefly

    click.echo(describe_briefly())
    context.exit()


@click.group(
    "whimbrel", cls=LazyGroup, commands=LazyCommands(), context_settings={"max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version, the kernel in use and the build, and exit.",
)
def main() -> None:
    """Self-hosted vector buckets that speak the API of Amazon S3 Vectors.

    Every flag of serve is also a variable: --port is WHIMBREL_PORT, and so on. See docs/reference/settings.md.
    """


if __name__ == "__main__":
    main()
