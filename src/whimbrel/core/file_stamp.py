"""Tells whether a file has changed since it was looked at."""

import os


def file_stamp(status: os.stat_result) -> tuple[int, ...]:
    """Returns what changes when a file does, also where a link leads to another one now.

    Whoever changes a file's mode or owner changes nothing but the last of it.
    """
    return (
        status.st_ino,
        status.st_dev,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
