"""Assignments survive the shell that reads them, whatever characters the values hold."""

import shutil
import subprocess

import pytest

from whimbrel.cli.shell import SHELLS, format_environment, quote_dotenv, quote_powershell

NASTY = {
    "PLAIN": "abc/DEF+123=",
    "QUOTES": """it's "quoted" `here` $HOME""",
    "SLASHES": r"back\slash \n \' \\",
    "SPACES": "  two  spaces ; rm -rf / && echo # no comment",
    "UNICODE": "été \u2018curly\u2019 😀",
    "GLOBS": "* ? [a] ~ ! % ^ {a,b}",
}
PRINT = "import os; print(*[os.environ.get(n, '<unset>') for n in {names}], sep='\\x01')"


def run_shell(shell, script, names):
    import sys

    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = PRINT.format(names=[*names, "GONE"]).replace('"', "'")
    script += f'{sys.executable} -c "{program}"\n'
    environment = {"PATH": "/usr/bin:/bin", "GONE": "still here", "HOME": "/nonexistent"}
    answer = subprocess.run(
        [shell, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.rstrip("\n").split("\x01")


@pytest.mark.parametrize(("shell", "syntax"), [("bash", "bash"), ("sh", "bash"), ("fish", "fish")])
def test_values_come_through(shell, syntax):
    script = format_environment(syntax, NASTY, removed=["GONE", "NEVER_SET"])
    assert run_shell(shell, script, NASTY) == [*NASTY.values(), "<unset>"]


def test_powershell_doubles_every_kind_of_single_quote():
    assert quote_powershell("a'b\u2019c") == "'a''b\u2019\u2019c'"
    text = format_environment("powershell", {"A": "1"}, removed=["B"])
    assert text == "$env:A = '1'\nRemove-Item Env:B -ErrorAction SilentlyContinue\n"


def test_dotenv_leaves_plain_values_bare_and_comments_what_it_cannot_unset():
    assert quote_dotenv("AKIA/x+y=") == "AKIA/x+y="
    assert quote_dotenv('a "b" $c') == r'"a \"b\" \$c"'
    assert format_environment("dotenv", {"A": "1"}, removed=["B"]) == "A=1\n# unset B\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_control_characters_are_refused(shell):
    with pytest.raises(ValueError, match="control character"):
        format_environment(shell, {"A": "one\ntwo"}, removed=[])
