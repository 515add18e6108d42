"""Instants that strings name: ISO 8601 dates and times, of which filters compare the moment and not the spelling.

    date    = YYYY-MM-DD
    instant = date ("T" | " ") hh:mm [ ":" ss [ "." 1 to 9 digits ] ] [ "Z" | ("+" | "-") hh:mm ]

A date stands for its first moment; what names no offset is in UTC. Years are 0001 to 9999, seconds at most 59. Any
other string is no date. Strings of a length are read together, as columns of characters.
"""

from dataclasses import dataclass

import numpy as np

from whimbrel.engine.model import Blobs, BoolArray, Int64Array, UInt8Array

DAY_S = 86_400
NANOSECOND_DIGITS = 9
DATE_CHARS = 10
MINUTES_CHARS = 16  # date, separator, hh:mm
SECONDS_CHARS = 19
FRACTION_START = 20
OFFSET_CHARS = 6
CHARS_MAX = FRACTION_START + NANOSECOND_DIGITS + OFFSET_CHARS
ROWS_AT_ONCE = 65_536  # the places of their characters take 18 MB at most

_DAYS_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_DAYS_BEFORE_1970 = 719_162  # days from 0001-01-01 to then


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A moment: seconds since 1970 in UTC, rounded down, and the nanoseconds beyond."""

    seconds: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Instants:
    """What n strings name.

    Attributes:
        seconds: int64 [n].
        nanoseconds: int64 [n], 0 to 999,999,999.
        is_date: bool [n]; of the others the numbers mean nothing.
    """

    seconds: Int64Array
    nanoseconds: Int64Array
    is_date: BoolArray

    def after(self, instant: Instant) -> BoolArray:
        """Returns which are later than an instant, bool [n]."""
        same = self.seconds == instant.seconds
        later = self.seconds > instant.seconds
        found: BoolArray = self.is_date & (
            later | (same & (self.nanoseconds > instant.nanoseconds))
        )
        return found

    def at(self, instant: Instant) -> BoolArray:
        """Returns which are that very instant, bool [n]."""
        same = (self.seconds == instant.seconds) & (self.nanoseconds == instant.nanoseconds)
        found: BoolArray = self.is_date & same
        return found


def parse_instant(text: bytes) -> Instant | None:
    """Returns the instant that a string names; None where it names none."""
    found = parse_instants(Blobs.of([text]))
    if not found.is_date[0]:
        return None
    return Instant(int(found.seconds[0]), int(found.nanoseconds[0]))


def parse_instants(texts: Blobs) -> Instants:
    """Returns the instants that strings name."""
    lengths = np.diff(texts.offsets)
    found = Instants(
        np.zeros(len(texts), dtype=np.int64),
        np.zeros(len(texts), dtype=np.int64),
        np.zeros(len(texts), dtype=np.bool_),
    )
    data = np.frombuffer(texts.data, dtype=np.uint8)
    for length in np.unique(lengths[(lengths >= DATE_CHARS) & (lengths <= CHARS_MAX)]).tolist():
        own = np.flatnonzero(lengths == length)
        for start in range(0, len(own), ROWS_AT_ONCE):
            rows = own[start : start + ROWS_AT_ONCE]
            chars = data[texts.offsets[rows][:, None] + np.arange(length)]
            _parse_chars(chars, found, rows)
    return found


def _parse_chars(chars: UInt8Array, found: Instants, rows: Int64Array) -> None:
    """Parses strings of one length, uint8 [m, length], and notes what they name at `rows`."""
    length = chars.shape[1]
    if length == DATE_CHARS:
        _note(_Reading(chars), found, rows)
        return
    if length < MINUTES_CHARS:
        return
    is_utc = chars[:, -1] == ord("Z")
    has_offset = np.isin(chars[:, -OFFSET_CHARS], (ord("+"), ord("-"))) & ~is_utc
    for chosen, zone_chars in (
        (is_utc, 1),
        (has_offset, OFFSET_CHARS),
        (~(is_utc | has_offset), 0),
    ):
        places = np.flatnonzero(chosen)
        if len(places) and _is_time(length - zone_chars):
            reading = _Reading(chars[places])
            reading.read_time(length - zone_chars)
            if zone_chars == OFFSET_CHARS:
                reading.read_offset()
            _note(reading, found, rows[places])


def _is_time(length: int) -> bool:
    """Says whether a date with a time, without its zone, may be so long."""
    if length in (MINUTES_CHARS, SECONDS_CHARS):
        return True
    return FRACTION_START < length <= FRACTION_START + NANOSECOND_DIGITS


def _note(reading: "_Reading", found: Instants, rows: Int64Array) -> None:
    found.seconds[rows] = reading.seconds
    found.nanoseconds[rows] = reading.nanoseconds
    found.is_date[rows] = reading.is_date


class _Reading:
    """Strings of one layout, m of them, being read; begins with their dates.

    Attributes:
        seconds, nanoseconds, is_date: as in `Instants`, so far.
    """

    def __init__(self, chars: UInt8Array) -> None:
        self._chars = chars
        self._digits = chars - np.uint8(ord("0"))
        self.is_date = np.ones(len(chars), dtype=np.bool_)
        self.nanoseconds = np.zeros(len(chars), dtype=np.int64)
        year = self._number(0, 4)
        self._expect(4, "-")
        month = self._number(5, 7)
        self._expect(7, "-")
        day = self._number(8, 10)
        is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        self.is_date &= (year >= 1) & (month >= 1) & (month <= 12)
        month = np.clip(month, 1, 12)
        leap_day = is_leap & (month > 2)
        month_days = np.diff(_DAYS_BEFORE_MONTH)[month] + (is_leap & (month == 2))
        self.is_date &= (day >= 1) & (day <= month_days)
        past = year - 1
        days = past * 365 + past // 4 - past // 100 + past // 400
        days += _DAYS_BEFORE_MONTH[month] + leap_day + day - 1 - _DAYS_BEFORE_1970
        self.seconds: Int64Array = days * DAY_S

    def read_time(self, limit: int) -> None:
        """Reads the time, which ends before `limit`."""
        self._expect(DATE_CHARS, "T ")
        self.seconds += 3600 * self._number(11, 13, most=23)
        self._expect(13, ":")
        self.seconds += 60 * self._number(14, 16, most=59)
        if limit == MINUTES_CHARS:
            return
        self._expect(16, ":")
        self.seconds += self._number(17, 19, most=59)
        if limit == SECONDS_CHARS:
            return
        self._expect(SECONDS_CHARS, ".")
        digits = limit - FRACTION_START
        self.nanoseconds = self._number(FRACTION_START, limit) * 10 ** (NANOSECOND_DIGITS - digits)

    def read_offset(self) -> None:
        """Reads the offset at the end."""
        start = self._chars.shape[1] - OFFSET_CHARS
        self._expect(start + 3, ":")
        offset = 3600 * self._number(start + 1, start + 3, most=23)
        offset += 60 * self._number(start + 4, start + 6, most=59)
        self.seconds -= np.where(self._chars[:, start] == ord("-"), -offset, offset)

    def _number(self, start: int, limit: int, *, most: int | None = None) -> Int64Array:
        digits = self._digits[:, start:limit]
        self.is_date &= (digits <= 9).all(axis=1)
        powers = 10 ** np.arange(limit - start - 1, -1, -1, dtype=np.int64)
        number: Int64Array = digits.astype(np.int64) @ powers
        if most is not None:
            self.is_date &= number <= most
        return number

    def _expect(self, place: int, chars: str) -> None:
        self.is_date &= np.isin(self._chars[:, place], [ord(char) for char in chars])
