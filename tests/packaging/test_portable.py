"""The native extension runs on processors older than the one it was compiled on."""

import platform
import shutil
import subprocess
import sys

import pytest

from whimbrel.kernel import variant

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
# Without AVX, which is what a build for the compiling machine's own processor would use somewhere.
OLD_PROCESSOR = "Nehalem"
PROGRAM = """
import numpy
from whimbrel import kernel
rows = numpy.arange(4000, dtype=numpy.float32).reshape(100, 40)
norms = kernel.row_norms(rows)
for isa in kernel.isas():
    found = kernel.nearest(rows[3], rows, norms, metric="euclidean", k=3, isa=isa)
    print(isa, found.rows.tolist())
body = b'{"vectors": [{"key": "a", "data": {"float32": [1.5, 2]}}]}'
print(kernel.scan_put_vectors(body).vector_count)
"""


@pytest.mark.long
@pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64 to play an older processor")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor played is an x86-64 one")
@pytest.mark.skipif(variant.native is None, reason="installed without the native extension")
def test_an_older_processor_runs_the_scalar_kernels():
    run = subprocess.run(
        [QEMU, "-cpu", OLD_PROCESSOR, sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["scalar", "numpy", "1"]
    assert lines[0].removeprefix("scalar") == lines[1].removeprefix("numpy") == " [2, 3, 4]"
