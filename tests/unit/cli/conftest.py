"""Runs the command line inside the test, without the user's own configuration."""

import asyncio
import os
from dataclasses import dataclass

import pytest

from whimbrel.cli.__main__ import main
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import open_context


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


@pytest.fixture
def store(tmp_path, monkeypatch, whimbrel):
    """Returns a sealed store with a bucket; its master key is in `config`."""
    monkeypatch.setenv("WHIMBREL_STORE", str(tmp_path / "store"))

    async def make():
        environment = {
            "WHIMBREL_STORE": str(tmp_path / "store"),
            "WHIMBREL_CONFIG_DIR": str(tmp_path / "config" / "whimbrel"),
        }
        async with open_context(load_settings(environment), environment) as opened:
            engine = Engine(opened.context)
            await engine.start()
            await engine.create_bucket("books", tags={})
            await engine.close()

    asyncio.run(make())
    return tmp_path / "store"
