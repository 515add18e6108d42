"""The methods of clients: one for every operation of the wire's table, named and documented from it.

Type checkers and editors read `methods.pyi` in this module's place; `tools/gen_client.py` makes it from the same table.
"""

from collections.abc import Callable
from typing import Any

from whimbrel.client.operations import METHOD_NAMES, OPERATIONS, describe
from whimbrel.wire.shape import Operation


class Methods:
    """Base of clients: has a method for every operation."""

    def _call(self, operation: Operation, parameters: dict[str, Any]) -> dict[str, Any]:
        """Calls an operation."""
        raise NotImplementedError


def _make_method(name: str, operation: Operation) -> Callable[..., dict[str, Any]]:
    def method(self: Methods, *positional: Any, **parameters: Any) -> dict[str, Any]:
        if positional:
            raise TypeError(f"{name}() only accepts keyword arguments.")
        return self._call(operation, parameters)

    method.__name__ = name
    method.__qualname__ = f"Client.{name}"
    method.__doc__ = describe(operation)
    return method


for _name, _operation_name in METHOD_NAMES.items():
    setattr(Methods, _name, _make_method(_name, OPERATIONS[_operation_name]))
