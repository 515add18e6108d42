"""Log lines: parseable, with the request's id, and impossible to forge."""

import io
import json
import logging

import pytest

from whimbrel.core.log import configure_logging, get_logger, request_id


@pytest.fixture(autouse=True)
def _restore_logging():
    root, own = logging.getLogger(), logging.getLogger("whimbrel")
    before = (root.handlers[:], root.level, own.level)
    yield
    root.handlers[:], root.level = before[0], before[1]
    own.setLevel(before[2])


def lines(use_json=True, level="info"):
    stream = io.StringIO()
    configure_logging(level=level, use_json=use_json, stream=stream)
    return stream


def test_a_line_is_one_json_object_with_the_request_id():
    stream = lines()
    token = request_id.set("abc")
    try:
        get_logger("whimbrel.wire").info("done", extra={"status": 200, "level": "no"})
    finally:
        request_id.reset(token)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "logger": "whimbrel.wire", "message": "done", "request_id": "abc",
        "status": 200,
    }  # fmt: skip


def test_a_traceback_stays_on_its_line():
    stream = lines()
    try:
        raise ValueError("broken\nline")
    except ValueError:
        get_logger("x").exception("failed")
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in line["traceback"]


def test_levels_hold_for_our_loggers_and_libraries_only_warn():
    stream = lines(level="debug")
    get_logger("x").debug("ours")
    logging.getLogger("uvicorn").info("theirs")
    logging.getLogger("uvicorn").warning("a warning")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "ours",
        "a warning",
    ]


def test_text_cannot_forge_a_line():
    stream = lines(use_json=False)
    get_logger("x").warning("bad\n2026-01-01T00:00:00Z error forged", extra={"n": 1})
    first, second = stream.getvalue().splitlines()
    assert " warning bad" in first
    assert second.startswith("    ")


EVENT = (
    '{"event":"failure","request_id":"r1","operation":"PutVectors","code":"","traceback":"T1\\nT2"}'
)


def test_an_event_becomes_part_of_the_line():
    stream = lines()
    get_logger("x").error("%s", EVENT)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["traceback"]) == ("failure", "error", "T1\nT2")
    stream = lines(use_json=False)
    get_logger("x").error("%s", EVENT)
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("error   failure request_id=r1 operation=PutVectors")
    assert rest == ["    T1", "    T2"]
