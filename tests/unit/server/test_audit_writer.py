"""The audit log's file and the groups in which it is written."""

import asyncio
import functools
import json
import os
import threading

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import UnavailableError
from whimbrel.core.settings import SettingError
from whimbrel.server import audit_writer
from whimbrel.server.audit_target import FileTarget, OutputTarget
from whimbrel.server.audit_writer import AuditWriter
from whimbrel.testing.node import ManualClock


def open_file(path, *, bytes_max=2**20, file_count_max=3) -> FileTarget:
    return FileTarget(path, bytes_max=bytes_max, file_count_max=file_count_max, clock=ManualClock())


def in_loop(story):
    """Runs a test that awaits."""

    @functools.wraps(story)
    def run(*args, **kwargs):
        asyncio.run(story(*args, **kwargs))

    return run


class Target:
    """Takes groups when its gate is open, and fails when it is told to."""

    def __init__(self) -> None:
        self.groups: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: OSError | None = None
        self.is_closed = False

    def write(self, records: bytes) -> None:
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.groups.append(records)

    def close(self) -> None:
        self.is_closed = True


def make_writer(target, *, clock=None, delay_s=0.01) -> AuditWriter:
    return AuditWriter(
        target,
        delay_s=delay_s,
        clock=clock or SystemClock(),
        tell_loss=lambda count: b"lost %d\n" % count,
    )


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0.001)


@in_loop
async def test_who_waits_shares_one_write_with_all_who_came_meanwhile():
    target = Target()
    target.gate.clear()
    writer = make_writer(target)
    waiting = [asyncio.create_task(writer.write(b"%d\n" % number)) for number in range(5)]
    await asyncio.sleep(0)
    await until(lambda: not writer._wanted.is_set())
    later = [asyncio.create_task(writer.write(b"%d\n" % number)) for number in range(5, 9)]
    await asyncio.sleep(0)
    target.gate.set()
    await asyncio.gather(*waiting, *later)
    assert b"".join(target.groups) == b"".join(b"%d\n" % number for number in range(9))
    assert len(target.groups) == 2
    await writer.close()
    assert target.is_closed


@in_loop
async def test_what_nobody_waits_for_is_written_soon_and_at_the_latest_at_the_end():
    target = Target()
    writer = make_writer(target)
    writer.append(b"a\n")
    await until(lambda: target.groups)
    await writer.close()
    late = make_writer(target, delay_s=3600)
    late.append(b"b\n")
    await late.close()
    assert target.groups == [b"a\n", b"b\n"]


@in_loop
async def test_a_full_disk_is_told_to_who_waits_and_nothing_is_lost_when_there_is_room_again(
    caplog,
):
    target, clock = Target(), ManualClock()
    target.error = OSError(28, "No space left on device")
    writer = make_writer(target, clock=clock)
    with pytest.raises(UnavailableError):
        await writer.write(b"a\n")
    assert writer.is_failing
    writer.append(b"b\n")
    assert "changes are refused" in caplog.text
    target.error = None
    while writer.is_failing:
        clock.advance(1)
        await asyncio.sleep(0.001)
    assert b"".join(target.groups) == b"a\nb\n"
    assert writer.lost_count == 0
    await writer.close()


@in_loop
async def test_records_that_cannot_be_kept_are_counted_and_the_log_says_so(monkeypatch):
    monkeypatch.setattr(audit_writer, "PENDING_BYTES_MAX", 4)
    target, clock = Target(), ManualClock()
    target.error = OSError(28, "No space left on device")
    writer = make_writer(target, clock=clock)
    with pytest.raises(UnavailableError):
        await writer.write(b"a\n")
    writer.append(b"b\n")
    writer.append(b"c\n")
    with pytest.raises(UnavailableError):
        await writer.write(b"d\n")
    assert writer.lost_count == 2
    target.error = None
    while writer.is_failing:
        clock.advance(1)
        await asyncio.sleep(0.001)
    assert b"".join(target.groups) == b"a\nb\nlost 2\n"
    await writer.close()


@in_loop
async def test_long_groups_are_written_in_parts(monkeypatch):
    monkeypatch.setattr(audit_writer, "GROUP_BYTES_MAX", 4)
    target = Target()
    writer = make_writer(target)
    await asyncio.gather(*(writer.write(b"%d\n" % number) for number in range(5)))
    assert target.groups == [b"0\n1\n", b"2\n3\n", b"4\n"]
    await writer.close()


def test_a_file_is_private_and_appended_to(tmp_path):
    path = tmp_path / "audit.log"
    for line in (b"a\n", b"b\n"):
        target = open_file(path)
        target.write(line)
        target.close()
    assert path.read_bytes() == b"a\nb\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_broken_off_is_ended(tmp_path):
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"half')
    target = open_file(path)
    target.write(b"{}\n")
    target.close()
    assert path.read_bytes() == b'{"half\n{}\n'


def test_a_renamed_file_is_left_alone_and_a_new_one_begun(tmp_path):
    path = tmp_path / "audit.log"
    target = open_file(path)
    target.write(b"a\n")
    path.rename(tmp_path / "audit.log.1")
    target.write(b"b\n")
    target.close()
    assert path.read_bytes() == b"b\n"
    assert (tmp_path / "audit.log.1").read_bytes() == b"a\n"


def test_a_long_file_is_renamed_and_only_the_newest_are_kept(tmp_path):
    path, clock = tmp_path / "audit.log", ManualClock()
    (tmp_path / "audit.log.bak").write_text("not ours")
    target = FileTarget(path, bytes_max=10, file_count_max=2, clock=clock)
    for number in range(6):
        target.write(b"%d23456789\n" % number)
        clock.advance(1)
    target.close()
    kept = sorted(tmp_path.glob("audit.log.2*"))
    assert [each.read_bytes()[:1] for each in kept] == [b"3", b"4"]
    assert path.read_bytes() == b"523456789\n"
    assert (tmp_path / "audit.log.bak").exists()


def test_two_servers_do_not_share_a_file(tmp_path):
    target = open_file(tmp_path / "audit.log")
    with pytest.raises(SettingError, match="another process writes") as refused:
        open_file(tmp_path / "audit.log")
    assert "each server" in refused.value.hint
    target.close()


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingError, match="No such file"):
        open_file(tmp_path / "nowhere" / "audit.log")


def test_a_group_that_was_broken_off_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "audit.log"
    target = open_file(path)
    target.write(b"a\n")
    write = os.write
    calls = iter([lambda fd, data: write(fd, data[:3]), None])

    def broken(descriptor, data):
        step = next(calls)
        if step is None:
            raise OSError(28, "No space left on device")
        return step(descriptor, data)

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="No space"):
        target.write(b"bbbbbb\n")
    monkeypatch.undo()
    target.write(b"c\n")
    target.close()
    assert path.read_bytes() == b"a\nc\n"


def test_standard_output_takes_lines(capfd):
    target = OutputTarget()
    target.write(json.dumps({"a": 1}).encode() + b"\n")
    target.close()
    assert capfd.readouterr().out == '{"a": 1}\n'
