"""The methods of clients: one for every operation of the wire's table, named and documented from it.

The table has AWS's operations and ours. `methods.pyi`, which type checkers read in this module's place, is generated
from the same table by `tools/gen_client.py`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from whimbrel.wire.routes import ROUTES
from whimbrel.wire.shape import Member, Operation, Shape

OPERATIONS: Final[Mapping[str, Operation]] = {
    name: route.operation for name, route in ROUTES.items()
}


def method_name(operation_name: str) -> str:
    """Returns the name of an operation's method: ListVectors is `list_vectors`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation_name).lower()


METHOD_NAMES: Final[Mapping[str, str]] = {method_name(name): name for name in OPERATIONS}


class Methods:
    """Base of clients: has a method for every operation."""

    def _call(self, operation: Operation, parameters: dict[str, Any]) -> dict[str, Any]:
        """Calls an operation."""
        raise NotImplementedError


def describe(operation: Operation) -> str:
    """Returns the documentation of an operation's method."""
    lines = [f"Calls {operation.name}.", "", "Args:"]
    lines += [_describe_member(name, member) for name, member in operation.input.members.items()]
    if not operation.input.members:
        del lines[-2:]
    names = ["ResponseMetadata", *operation.output.members]
    lines += ["", "Returns:", f"    A dictionary with {', '.join(names)}."]
    if operation.errors:
        lines += ["", "Raises:", f"    ClientError: {', '.join(sorted(operation.errors))}."]
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
    return f"{shape.name}, a {kind}{bounds}" + (f", one of {', '.join(values)}" if values else "")


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"{least} to {most}"


def _make_method(name: str, operation: Operation) -> Callable[..., dict[str, Any]]:
    def method(self: Self, **parameters: Any) -> dict[str, Any]:  # type: ignore[misc]
        return self._call(operation, parameters)  # type: ignore[no-any-return]

    method.__name__ = name
    method.__qualname__ = f"Client.{name}"
    method.__doc__ = describe(operation)
    return method


for _name, _operation_name in METHOD_NAMES.items():
    setattr(Methods, _name, _make_method(_name, OPERATIONS[_operation_name]))
