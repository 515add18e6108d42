"""PostgreSQL's protocol as the load speaks it: an answer ends where it ends, whatever pieces it comes in."""

import struct

import numpy as np
import pytest

from bench.serving.postgres_dialogue import (
    PostgresDialogue,
    execution,
    first_columns,
    messages,
)
from bench.serving.target import Verdict

DIALOGUE = PostgresDialogue(("127.0.0.1", 1), [], "user", "database", [], "SELECT")


def message(kind, body=b""):
    return kind + struct.pack("!i", 4 + len(body)) + body


def row(number):
    return message(b"D", struct.pack("!hii", 1, 4, number))


BOUND, DONE, READY = message(b"2"), message(b"C", b"SELECT 2\0"), message(b"Z", b"I")
ROWS = BOUND + row(7) + row(1 << 24) + DONE + READY
ERROR = message(b"E", b"SERROR\0C42P01\0\0") + READY
FATAL = message(b"E", b"SFATAL\0C28000\0\0")


@pytest.mark.parametrize("answer", [ROWS, ERROR, FATAL, READY])
def test_an_answer_ends_with_its_last_byte(answer):
    for size in range(len(answer)):
        assert DIALOGUE.answer_length(bytearray(answer[:size])) == 0
    assert DIALOGUE.answer_length(bytearray(answer)) == len(answer)


def test_what_follows_an_answer_is_not_part_of_it():
    assert DIALOGUE.answer_length(bytearray(ROWS + ROWS[:9])) == len(ROWS)


def test_a_row_that_looks_like_an_end_is_none():
    # The bytes of a vector or a number may be anything.
    answer = BOUND + message(b"D", READY + READY) + READY
    assert DIALOGUE.answer_length(bytearray(answer[:-1])) == 0
    assert DIALOGUE.answer_length(bytearray(answer)) == len(answer)


def test_errors_are_no_answers():
    assert DIALOGUE.verdict(bytearray(ROWS)) is Verdict.ANSWERED
    assert DIALOGUE.verdict(bytearray(ERROR)) is Verdict.FAILED
    assert DIALOGUE.verdict(bytearray(FATAL)) is Verdict.FAILED


def test_rows_are_read_in_order():
    assert first_columns(ROWS) == [7, 1 << 24]


def test_an_execution_binds_the_vector_in_binary():
    vector = np.array([1.5, -2.0, 0.0], dtype=np.float32)
    (bind, body), (execute, _), (sync, _) = messages(execution(vector))
    assert bytes([bind, execute, sync]) == b"BES"
    assert body.startswith(b"\0nearest\0")
    argument = struct.pack("!hh", 3, 0) + struct.pack("!fff", 1.5, -2.0, 0.0)
    assert struct.pack("!i", len(argument)) + argument in body
