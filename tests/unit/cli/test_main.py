"""The command line as a whole: help, errors with hints, exit codes."""

import json
import subprocess
import sys

import pytest

from whimbrel.cli.__main__ import COMMANDS
from whimbrel.cli.__main__ import main as command_line
from whimbrel.cli.report import ExitCode, exit_code_of, format_bytes, hint_of
from whimbrel.core.errors import (
    BucketNotFoundError,
    CorruptObjectError,
    StoreRefusedError,
    StoreUnavailableError,
)


def test_help_imports_no_command():
    script = (
        "import sys; sys.argv = ['whimbrel', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('whimbrel.cli', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'uvicorn', 'obstore', 'prometheus_client', 'msgspec', 'whimbrel.cli.serve'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert all(name in answer.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(whimbrel, name):
    result = whimbrel(name, "--help")
    assert result.code == ExitCode.OK
    assert result.out.startswith(f"Usage: whimbrel {name}")


def walk(command, path=()):
    """Yields every command below one, with its path."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


def test_no_two_parameters_of_a_command_share_a_name():
    found = list(walk(command_line))
    assert {("iam", "account", "delete"), ("serve",)} <= {path for path, _ in found}
    for path, command in found:
        names = [parameter.name for parameter in command.params]
        flags = [flag for parameter in command.params for flag in parameter.opts]
        assert len(set(names)) == len(names), path
        assert len(set(flags)) == len(flags), path


def test_a_wrong_flag_is_a_usage_error_with_a_hint(whimbrel):
    result = whimbrel("env", "--nonsense")
    assert result.code == ExitCode.USAGE
    assert "error: No such option" in result.err
    assert "hint: " in result.err


def test_a_wrong_value_names_its_bounds(whimbrel):
    result = whimbrel("env", "--port", 99999)
    assert result.code == ExitCode.USAGE
    assert "hint: it may be: 0 to 65,535" in result.err


def test_errors_are_json_where_json_was_asked_for(whimbrel):
    result = whimbrel("env", "--json")
    assert result.out == ""
    assert set(json.loads(result.err)["error"]) == {"message", "hint"}


def test_without_a_command_it_shows_help(whimbrel):
    result = whimbrel()
    assert result.code == ExitCode.USAGE
    assert "Commands:" in result.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BucketNotFoundError("x"), ExitCode.NOT_FOUND),
        (StoreRefusedError("x"), ExitCode.REFUSED),
        (StoreUnavailableError("x"), ExitCode.UNAVAILABLE),
        (CorruptObjectError("k", 1, "d"), ExitCode.FAILED),
    ],
)
def test_errors_have_codes_and_hints(error, code):
    assert exit_code_of(error) == code
    assert hint_of(error)


def test_sizes_read_well():
    assert [format_bytes(n) for n in (0, 1023, 1536, 5 * 1024**3)] == [
        "0 B", "1,023 B", "1.5 KiB", "5.0 GiB",
    ]  # fmt: skip


def test_a_refusal_that_knows_what_to_do_says_so():
    assert hint_of(StoreRefusedError("no.", hint="set it")) == "set it"
    assert "stores.md" in hint_of(StoreRefusedError("no."))


@pytest.mark.parametrize("store", ["ftp://x", "s3x://bucket/prefix"])
def test_a_store_of_an_unknown_kind_is_refused_and_makes_nothing(
    whimbrel, tmp_path, monkeypatch, store
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = whimbrel("serve", "--port", 0, "--store", store)
    assert result.code == ExitCode.REFUSED
    assert "not a store" in result.err
    assert list((tmp_path / "here").iterdir()) == []
