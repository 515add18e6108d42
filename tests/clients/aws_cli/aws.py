"""The `aws` command of an environment, called as in a shell; notes which commands of S3 Vectors it was given."""

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.clients.environments import python_environment, run
from tests.clients.serving import Server

TIMEOUT_S = 60
# The exit code of a request that the service refused, and of a command line that makes no sense.
REFUSED = 255
USAGE = 2


class Aws:
    """Runs `aws` against a server.

    Attributes:
        called: the commands of `aws s3vectors` that were given so far, such as `put-vectors`.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._command = python_environment("aws_cli") / "aws"
        self.called: set[str] = set()

    def run(self, *arguments: str, code: int = 0, **extra: str) -> CompletedProcess[str]:
        """Runs `aws ARGUMENTS...`, which must end with an exit code; see `environments.run`."""
        if arguments[0] == "s3vectors":
            self.called.add(arguments[1])
        return run(
            [self._command, *arguments],
            server=self._server,
            cwd=self._directory,
            timeout_s=TIMEOUT_S,
            extra=extra,
            exit_codes=(code,),
        )

    def text(self, *arguments: str) -> str:
        """Returns what `aws s3vectors ARGUMENTS...` prints."""
        done = self.run("s3vectors", *arguments)
        assert done.stderr == ""
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Returns the JSON document that `aws s3vectors ARGUMENTS...` prints; None when it prints nothing."""
        printed = self.text(*arguments)
        return json.loads(printed) if printed else None

    def refusal(self, *arguments: str, **extra: str) -> str:
        """Returns the one line of error with which `aws s3vectors ARGUMENTS...` must fail at the server."""
        done = self.run("s3vectors", *arguments, code=REFUSED, **extra)
        assert done.stdout == ""
        return done.stderr.strip()

    def misuse(self, *arguments: str) -> str:
        """Returns the error with which `aws s3vectors ARGUMENTS...` must fail before it asks the server."""
        return self.run("s3vectors", *arguments, code=USAGE).stderr
