"""`whimbrel version` and `whimbrel --version` tell what runs, and say so when they do not know."""

import json
import platform

import pytest

from whimbrel import kernel
from whimbrel.cli.report import ExitCode
from whimbrel.core import build
from whimbrel.kernel import variant


def test_version_tells_kernel_and_build(whimbrel):
    values = json.loads(whimbrel("version", "--json").out)
    assert set(values) == {
        "whimbrel", "kernel", "python", "platform", "commit", "compiler", "built_for_python",
    }  # fmt: skip
    assert values["whimbrel"] == build.version()
    assert values["kernel"] == kernel.isas()[0]
    assert values["commit"] == build.commit()


def test_the_flag_says_it_on_one_line(whimbrel, monkeypatch):
    monkeypatch.setattr(build, "commit", lambda: "0123456789ab-dirty")
    result = whimbrel("--version")
    assert result.code == ExitCode.OK
    assert result.out.startswith(f"whimbrel {build.version()} (kernel {kernel.isas()[0]}; ")
    assert result.out.endswith("; commit 0123456789ab-dirty)\n")


def test_an_unknown_commit_is_called_unknown(whimbrel, monkeypatch):
    monkeypatch.setattr(build, "commit", lambda: None)
    assert whimbrel("--version").out.endswith("; commit unknown)\n")
    assert "commit            unknown\n" in whimbrel("version").out


@pytest.mark.skipif(variant.native is None, reason="installed without the native extension")
def test_the_extension_knows_its_compiler_and_python():
    made = kernel.extension_build()
    assert made is not None
    assert made.compiler.split()[0] in {"GCC", "Clang"}
    assert made.python.rpartition(".")[0] == ".".join(platform.python_version_tuple()[:2])


def test_without_the_extension_it_says_so(whimbrel, monkeypatch):
    monkeypatch.setattr(variant, "native", None)
    result = whimbrel("--version")
    assert "(kernel numpy; installed without the native extension; " in result.out
    assert json.loads(whimbrel("version", "--json").out)["compiler"] is None


def test_a_kernel_that_cannot_run_is_refused(whimbrel, monkeypatch):
    monkeypatch.setenv("WHIMBREL_KERNEL", "abacus")
    result = whimbrel("--version")
    assert result.code == ExitCode.USAGE
    assert "abacus" in result.err
