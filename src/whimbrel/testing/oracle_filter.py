"""What a filter means, one record at a time: the plain reading that the vectorised evaluation is tested against.

It shares no code with `whimbrel.engine.filter`: it reads the filter and the metadata as decoded JSON.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_DATE = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<minutes>\d\d:\d\d)(?P<seconds>:\d\d(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>\d\d):(?P<offset>\d\d))?)?",
    re.ASCII,
)


def matches(document: Any, metadata: dict[str, Any]) -> bool:
    """Says whether a record's metadata satisfies a filter.

    Args:
        document: a valid filter, as decoded JSON.
        metadata: the record's metadata, as decoded JSON.
    """
    ((name, condition),) = document.items()
    if name == "$and":
        return all(matches(child, metadata) for child in condition)
    if name == "$or":
        return any(matches(child, metadata) for child in condition)
    if name == "$not":
        return not matches(condition, metadata)
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    return all(_holds(operator, operand, metadata, name) for operator, operand in condition.items())


def _holds(operator: str, operand: Any, metadata: dict[str, Any], name: str) -> bool:
    if operator == "$not":
        return not matches({name: operand}, metadata)
    if operator == "$exists":
        return (name in metadata) is operand
    if operator == "$ne":
        return not _holds("$eq", operand, metadata, name)
    if operator == "$nin":
        return not _holds("$in", operand, metadata, name)
    if name not in metadata:
        return False
    value = metadata[name]
    elements = value if isinstance(value, list) else [value]
    return any(_element_holds(operator, operand, element) for element in elements)


def _element_holds(operator: str, operand: Any, element: Any) -> bool:
    if isinstance(operand, dict):
        return _date_holds(operator, operand["$date"], element)
    if operator == "$eq":
        return _same(element, operand)
    if operator == "$in":
        return any(_same(element, wanted) for wanted in operand)
    if operator == "$startsWith":
        return isinstance(element, str) and element.startswith(operand)
    if isinstance(operand, str):
        return isinstance(element, str) and _compare(operator, element.encode(), operand.encode())
    return _is_number(element) and _compare(operator, float(element), float(operand))


def _compare(operator: str, value: Any, bound: Any) -> bool:
    return bool(
        {
            "$eq": value == bound,
            "$gt": value > bound,
            "$gte": value >= bound,
            "$lt": value < bound,
            "$lte": value <= bound,
        }[operator]
    )


def _date_holds(operator: str, wanted: str, element: Any) -> bool:
    value = read_date(element) if isinstance(element, str) else None
    return value is not None and _compare(operator, value, read_date(wanted))


def read_date(text: str) -> tuple[int, int] | None:
    """Returns seconds and nanoseconds since 1970 of an ISO 8601 date; None for any other string."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    seconds = (match["seconds"] or ":00")[:3]
    try:
        start = datetime.fromisoformat(f"{match['date']}T{match['minutes'] or '00:00'}{seconds}")
        hours, minutes = int(match["hours"] or 0), int(match["offset"] or 0)
    except ValueError:
        return None
    if hours > 23 or minutes > 59:
        return None
    days = start.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if match["sign"] == "-" else 1)
    return (days - offset) // timedelta(seconds=1), int((match["fraction"] or "0").ljust(9, "0"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        return float(one) == float(other)
    return type(one) is type(other) and bool(one == other)
