"""The server under test: `whimbrel serve`, told to say when it deletes an index."""

import os
import sys
from functools import partial
from pathlib import Path

from tests.fault.kill9.options import OPTIONS
from tests.fault.kill9.phases import Phase, PhaseByte
from whimbrel.cli.__main__ import main
from whimbrel.engine.directory import Directory
from whimbrel.server import assembly


def run() -> int:
    """Serves until killed."""
    byte = PhaseByte(Path(os.environ["KILL9_PHASE"]))
    byte.phase = Phase.NONE
    Directory.delete_index = byte.telling(Phase.DELETION, Directory.delete_index)
    # The indexer collects within seconds, so a proof must not be older than that either.
    assembly.EngineOptions = partial(
        assembly.EngineOptions,
        proof_age_max_s=OPTIONS.proof_age_max_s,
        refresh_interval_s=OPTIONS.refresh_interval_s,
        manifest_grace_s=OPTIONS.manifest_grace_s,
        collection_wait_s=OPTIONS.collection_wait_s,
        catalog_snapshot_record_count=OPTIONS.catalog_snapshot_record_count,
    )
    return main()


if __name__ == "__main__":
    sys.exit(run())
