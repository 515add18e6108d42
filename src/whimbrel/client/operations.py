"""The operations that clients have methods for: all of the wire's table, AWS's and ours."""

import re
from collections.abc import Mapping
from typing import Final

from whimbrel.wire.routes import ROUTES
from whimbrel.wire.shape import Member, Operation, Shape

OPERATIONS: Final[Mapping[str, Operation]] = {
    name: route.operation for name, route in ROUTES.items()
}


def method_name(operation_name: str) -> str:
    """Returns the name of an operation's method: ListVectors is `list_vectors`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation_name).lower()


METHOD_NAMES: Final[Mapping[str, str]] = {method_name(name): name for name in OPERATIONS}


def describe(operation: Operation) -> str:
    """Returns the documentation of an operation's method."""
    lines = [f"Calls {operation.name}.", "", "Args:"]
    lines += [_describe_member(name, member) for name, member in operation.input.members.items()]
    if not operation.input.members:
        del lines[-2:]
    names = ["ResponseMetadata", *operation.output.members]
    lines += ["", "Returns:", f"    A dictionary with {', '.join(names)}."]
    if operation.errors:
        lines += ["", "Raises:", *(f"    {code}" for code in sorted(operation.errors))]
    return "\n".join(lines)


def _describe_member(name: str, member: Member) -> str:
    need = "required" if member.is_required else "optional"
    return f"    {name}: {describe_shape(member.shape)}, {need}."


def describe_shape(shape: Shape) -> str:
    """Returns a few words on a shape: what it is called, and what bounds it."""
    kind = type(shape).__name__.removesuffix("Shape").lower()
    least, most = getattr(shape, "min", None), getattr(shape, "max", None)
    bounds = "" if least is None and most is None else f" of {_range(least, most)}"
    values = getattr(shape, "enum", ())
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{shape.name}, {article} {kind}{bounds}" + (
        f", one of {', '.join(values)}" if values else ""
    )


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"{least} to {most}"
