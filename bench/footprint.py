"""What a server takes before anyone uses it: time to start and to answer, memory of all its processes, descriptors."""

import sys
import time
from pathlib import Path

from bench.client import RawClient
from bench.process_tree import descriptor_count, process_ids, pss_bytes
from bench.report import Report
from bench.scale import Scale
from bench.server import whimbrel

SECTION = "footprint"
MIB = 1024 * 1024
IDLE_MIB_MAX = 200.0
START_MS_MAX = 1000.0


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times starts, then reads what an idle server holds."""
    starts_ms, answers_ms = [], []
    for turn in range(scale.start_count):
        inner = folder / f"start-{turn}"
        inner.mkdir()
        with whimbrel(inner) as server:
            starts_ms.append(server.started_in_s * 1e3)
            client = RawClient(server)
            _, first_ms = client.call("ListVectorBuckets", b"{}")
            client.close()
            answers_ms.append(starts_ms[-1] + first_ms)
    report.add(SECTION, "start: process to ready, new store", "ms", starts_ms)
    name = "start: process to first answered request, new store"
    report.check(name, report.add(SECTION, name, "ms", answers_ms), START_MS_MAX, "ms")
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
