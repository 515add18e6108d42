"""What a server takes before anyone uses it: time to start, memory of all its processes, descriptors."""

import sys
import time
from pathlib import Path

from bench.process_tree import descriptor_count, process_ids, pss_bytes
from bench.report import Report
from bench.scale import Scale
from bench.server import whimbrel

SECTION = "footprint"
MIB = 1024 * 1024
IDLE_MIB_MAX = 200.0


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times starts, then reads what an idle server holds."""
    starts_ms = []
    for turn in range(scale.start_count):
        inner = folder / f"start-{turn}"
        inner.mkdir()
        with whimbrel(inner) as server:
            starts_ms.append(server.started_in_s * 1e3)
    report.add(SECTION, "start: process to ready, new store", "ms", starts_ms)
    if not sys.platform.startswith("linux"):
        report.skip("memory and descriptors are read from /proc, which only Linux has")
        return
    with whimbrel(folder) as server:
        time.sleep(scale.idle_s)
        root_id = server.process.pid
        idle_mib = pss_bytes(root_id) / MIB
        report.add(SECTION, "processes of an idle server", "", [float(len(process_ids(root_id)))])
        report.add(SECTION, "descriptors of an idle server", "", [float(descriptor_count(root_id))])
        report.add(SECTION, "PSS of an idle server, all processes", "MiB", [idle_mib])
    report.check("idle memory, PSS of all processes", idle_mib, IDLE_MIB_MAX, "MiB")
