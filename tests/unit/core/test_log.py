"""Log lines: parseable, with the request's id, and impossible to forge."""

import io
import json
import logging

import pytest

from whimbrel.core.log import configure_logging, find_event_handler, get_logger, request_id


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


@pytest.mark.parametrize("now_s", [1_700_000_000.0, 1_700_000_000.9996, 1_700_000_061.25])
def test_the_short_way_of_an_event_writes_what_the_long_one_does(now_s):
    stream, logger = lines(), get_logger("x")
    record = logger.makeRecord("whimbrel.x", logging.INFO, "", 0, "%s", (EVENT,), None)
    record.created = now_s
    logging.getLogger().handlers[0].handle(record)
    handler = find_event_handler(logger)
    handler.write_event(logger, "info", EVENT, now_s=now_s)
    long, short = stream.getvalue().splitlines()
    assert short == long


def test_the_short_way_is_closed_where_others_listen():
    lines()
    logger = get_logger("x.y")
    assert find_event_handler(logger) is not None
    listener = logging.NullHandler()
    for place in (logger, get_logger("x"), logging.getLogger()):
        place.addHandler(listener)
        assert find_event_handler(logger) is None
        place.removeHandler(listener)
    logger.propagate = False
    assert find_event_handler(logger) is None
    logger.propagate = True
    lines(use_json=False)
    assert find_event_handler(logger) is None


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream, logger = lines(), get_logger("x")
    stream.close()
    find_event_handler(logger).write_event(logger, "info", EVENT, now_s=0.0)
