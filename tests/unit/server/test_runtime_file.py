"""The note of where a server listens."""

import dataclasses
import os
import subprocess
import sys

import pytest

from whimbrel.server.runtime_file import (
    FILE_NAME,
    RunningServer,
    read_runtime_file,
    remove_runtime_file,
    write_runtime_file,
)


def server(pid=None):
    pid = os.getpid() if pid is None else pid
    return RunningServer(endpoint="http://h:1", region="r", store="s", pid=pid, no_auth=False)


def test_a_note_is_read_back_and_removed(tmp_path):
    directory = tmp_path / "new" / "whimbrel"
    write_runtime_file(directory, server())
    assert read_runtime_file(directory) == server()
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    remove_runtime_file(directory, server())
    assert read_runtime_file(directory) is None


def test_only_its_own_server_removes_a_note(tmp_path):
    write_runtime_file(tmp_path, server())
    # Containers may give both one process id.
    other = dataclasses.replace(server(), endpoint="http://h:2")
    remove_runtime_file(tmp_path, other)
    assert read_runtime_file(tmp_path) == server()


def test_a_note_of_a_dead_process_counts_as_none(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_runtime_file(tmp_path, server(child.pid))
    assert read_runtime_file(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"pid": "x"}', "\x00", '{"endpoint": 1}']
)
def test_a_damaged_note_counts_as_none(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    assert read_runtime_file(tmp_path) is None


def test_an_unwritable_directory_is_no_reason_not_to_serve(tmp_path):
    (tmp_path / "taken").write_text("")
    write_runtime_file(tmp_path / "taken", server())
