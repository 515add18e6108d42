"""What a server and its workers tell each other: by environment variables, and through a pipe."""

from typing import Final

# What a worker writes into the pipe: that it serves, and that there is work for the indexer.
READY: Final = b"r"
WORK: Final = b"w"

SOCKET_ENV: Final = "WHIMBREL_WORKER_SOCKET_FD"
TELL_ENV: Final = "WHIMBREL_WORKER_TELL_FD"
NUMBER_ENV: Final = "WHIMBREL_WORKER_NUMBER"
BOARD_ENV: Final = "WHIMBREL_WORKER_BOARD"
