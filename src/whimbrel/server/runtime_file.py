"""A note in the configuration directory of where this user's server listens, so that `whimbrel env` finds it.

Advisory only: the last server that started wins, and when it ends no note is left, though another may run. A note of a
process that is gone counts as none, and nothing depends on it but the words that `whimbrel env` prints. It holds no
secret.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE_NAME: Final = "server.json"
FILE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server as its note tells of it.

    Attributes:
        endpoint: where clients reach it, such as `http://127.0.0.1:7676`.
        region: stands in its ARNs.
        store: what it serves, without secrets.
        pid: its process.
        no_auth: whether it takes unsigned requests.
        ca_bundle: file of the certificates that its clients are to trust; empty where the system's will do.
    """

    endpoint: str
    region: str
    store: str
    pid: int
    no_auth: bool
    ca_bundle: str = ""


def write_runtime_file(directory: Path, server: RunningServer) -> None:
    """Leaves the note; a directory that cannot be written is no reason not to serve."""
    path = directory / FILE_NAME
    draft = path.with_name(f".{FILE_NAME}.{server.pid}")
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(json.dumps(asdict(server)), encoding="utf-8")
        draft.replace(path)


def read_runtime_file(directory: Path) -> RunningServer | None:
    """Returns the server that left the note, or None when there is none or it is gone."""
    try:
        with (directory / FILE_NAME).open(encoding="utf-8") as file:
            server = RunningServer(**json.loads(file.read(FILE_BYTES_MAX)))
        os.kill(server.pid, 0)
    except PermissionError:
        return None  # the process id now belongs to somebody else
    except (OSError, ValueError, TypeError, OverflowError):
        return None
    return server


def remove_runtime_file(directory: Path, server: RunningServer) -> None:
    """Takes the note away when it is this server's own; servers in containers may share a process id."""
    if read_runtime_file(directory) == server:
        with contextlib.suppress(OSError):
            (directory / FILE_NAME).unlink()
