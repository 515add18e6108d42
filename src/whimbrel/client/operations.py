"""The operations that clients have methods for: all of the wire's table, AWS's and ours."""

import re
from collections.abc import Mapping
from textwrap import wrap
from typing import Final

from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.routes import ROUTES
from whimbrel.wire.shape import Member, Operation, Shape

WIDTH: Final = 100

OPERATIONS: Final[Mapping[str, Operation]] = {
    name: route.operation for name, route in ROUTES.items()
}


def method_name(operation_name: str) -> str:
    """Returns the name of an operation's method: ListVectors is `list_vectors`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation_name).lower()


METHOD_NAMES: Final[Mapping[str, str]] = {method_name(name): name for name in OPERATIONS}


def describe(operation: Operation) -> str:
    """Returns the documentation of an operation's method."""
    extension = EXTENSIONS.get(operation.name)
    first = f"Calls {operation.name}." if extension is None else extension.documentation
    lines = [first, "", "Args:"]
    lines += [_describe_member(name, member) for name, member in operation.input.members.items()]
    if not operation.input.members:
        del lines[-2:]
    names = ", ".join(["ResponseMetadata", *operation.output.members])
    lines += ["", "Returns:", *_indented(f"A dictionary with {names}.")]
    if operation.errors:
        lines += ["", "Raises:", *(f"    {code}" for code in sorted(operation.errors))]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


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
