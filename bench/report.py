"""What a run found: measurements as rows, targets as checks, and where they were taken.

A figure without its machine, commit and settings is worth nothing, so all of them go into the same file.
"""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["whimbrel", "numpy", "uvicorn", "boto3"]


class Row(msgspec.Struct, frozen=True):
    """One measurement: `p50` and `p99` of `count` samples, or one value as both."""

    section: str
    name: str
    unit: str
    count: int
    p50: float
    p99: float


class Check(msgspec.Struct, frozen=True):
    """One target: `value` may be at most `limit`, or must equal it when `exact`."""

    name: str
    value: float
    limit: float
    unit: str
    exact: bool = False

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.value == self.limit if self.exact else self.value <= self.limit


def quantile(samples: Sequence[float], share: float) -> float:
    """Returns the smallest sample that at least `share` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class Report:
    """Collects rows and checks, and prints each as it comes."""

    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, section: str, name: str, unit: str, samples: Sequence[float]) -> float:
        """Adds the samples of one measurement and returns their median."""
        row = Row(
            section, name, unit, len(samples), quantile(samples, 0.5), quantile(samples, 0.99)
        )
        self.rows.append(row)
        print(
            f"{row.section:<10} {row.name:<52} {row.p50:>12,.3f} {row.p99:>12,.3f}"
            f"  {row.unit:<8} n={row.count}",
            flush=True,
        )
        return row.p50

    def check(
        self, name: str, value: float, limit: float, unit: str = "x", *, exact: bool = False
    ) -> None:
        """Adds a target and whether it is met."""
        check = Check(name, value, limit, unit, exact)
        self.checks.append(check)
        print(f"{'check':<10} {describe(check)}", flush=True)

    def skip(self, what: str) -> None:
        """Notes something that could not be measured here, and why."""
        self.skipped.append(what)
        print(f"{'skipped':<10} {what}", flush=True)

    def print_summary(self) -> None:
        """Prints the targets together, as the last thing on the screen."""
        print("\ntargets held in this run:")
        for check in self.checks:
            print(f"  {describe(check)}")
        for what in self.skipped:
            print(f"  skipped: {what}")

    def finish(self, output: Path | None, *, is_checked: bool) -> int:
        """Prints the summary, writes JSON to `output` if given; returns 1 when `is_checked` and a target is missed."""
        self.print_summary()
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(self.as_json())
        return int(is_checked and not all(check.passed for check in self.checks))

    def as_json(self) -> bytes:
        """Returns everything as indented JSON."""
        checks = [{**msgspec.to_builtins(check), "passed": check.passed} for check in self.checks]
        whole = {
            "environment": environment(),
            "settings": self.settings,
            "rows": msgspec.to_builtins(self.rows),
            "checks": checks,
            "skipped": self.skipped,
        }
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def describe(check: Check) -> str:
    """Returns a line with a target, the value and the verdict."""
    relation = "=" if check.exact else "<="
    verdict = "pass" if check.passed else "MISS"
    return (
        f"{verdict}  {check.name:<62} {check.value:>10,.2f} {check.unit:<4}"
        f" (target {relation} {check.limit:,.2f})"
    )


def environment() -> dict[str, Any]:
    """Returns where and on what the run took place."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": _output("git", "rev-parse", "HEAD"),
        "changed_files": len(_output("git", "status", "--porcelain").splitlines()),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "kernel": kernel_variant(),
    }


def kernel_variant() -> str:
    """Returns the instruction set that distances are computed with."""
    from whimbrel.kernel import active_isa

    return str(active_isa())


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _output(*command: str) -> str:
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip()
