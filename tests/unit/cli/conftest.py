"""Runs the command line inside the test, without the user's own configuration."""

import os
from dataclasses import dataclass

import pytest

from whimbrel.cli.__main__ import main


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def whimbrel(monkeypatch, tmp_path, capsys):
    """Returns a function that runs `whimbrel ARGUMENTS...`; `config` is its configuration directory."""
    for name in list(os.environ):
        if name.startswith(("WHIMBREL_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(int(ended.value.code), captured.out, captured.err)

    return run
