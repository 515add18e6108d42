"""What a filter means, one record at a time: the plain reading that the vectorised evaluation is tested against.

It shares no code with `whimbrel.engine.filter`: it reads the filter and the metadata as decoded JSON.
"""

from typing import Any


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
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    return all(_holds(operator, operand, metadata, name) for operator, operand in condition.items())


def _holds(operator: str, operand: Any, metadata: dict[str, Any], name: str) -> bool:
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
    if operator == "$eq":
        return _same(element, operand)
    if operator == "$in":
        return any(_same(element, wanted) for wanted in operand)
    if operator == "$startsWith":
        return isinstance(element, str) and element.startswith(operand)
    if not _is_number(element):
        return False
    value, bound = float(element), float(operand)
    return {
        "$gt": value > bound,
        "$gte": value >= bound,
        "$lt": value < bound,
        "$lte": value <= bound,
    }[operator]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        return float(one) == float(other)
    return type(one) is type(other) and bool(one == other)
