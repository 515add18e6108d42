"""Our extensions in the form in which botocore describes services, made of the shapes that the server goes by.

Shapes of AWS's are referred to by their names, as the SDK at hand has them; our own get names that AWS's model will
hardly ever have.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from whimbrel.wire.extension import Extension
from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.model import ERRORS, OPERATIONS
from whimbrel.wire.shape import (
    BooleanShape,
    DocumentShape,
    FloatShape,
    IntegerShape,
    ListShape,
    LongShape,
    MapShape,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
)

PREFIX: Final = "Whimbrel"

Description = dict[str, Any]
"""A service, an operation or a shape, as botocore's JSON has it."""

_SIMPLE: Final[dict[type[Shape], Description]] = {
    BooleanShape: {"type": "boolean", "box": True},
    DocumentShape: {"type": "structure", "members": {}, "document": True},
    FloatShape: {"type": "double", "box": True},
    IntegerShape: {"type": "integer", "box": True},
    LongShape: {"type": "long", "box": True},
    StringShape: {"type": "string"},
    TimestampShape: {"type": "timestamp"},
}


def extend_description(service: Mapping[str, Any]) -> Description:
    """Returns the description of a service with our operations and what they need.

    Args:
        service: botocore's description of S3 Vectors, of any age; left as it is.
    """
    shapes = dict(service["shapes"])
    operations = dict(service["operations"])
    for name, extension in EXTENSIONS.items():
        operation = extension.operation
        operations[name] = {
            "name": name,
            "http": {"method": operation.method, "requestUri": operation.uri, "responseCode": 200},
            "input": {"shape": shape_name(operation.input)},
            "output": {"shape": shape_name(operation.output)},
            # An older SDK may lack one; it makes a general error of that.
            "errors": [{"shape": code} for code in operation.errors if code in shapes],
            "documentation": f"<p>{extension.documentation}</p>",
        }
        for shape in _reachable([operation.input, operation.output]):
            shapes.setdefault(shape_name(shape), describe_shape(shape))
    return {**service, "operations": operations, "shapes": shapes}


def describe_pagination(extension: Extension) -> Description | None:
    """Returns how botocore is to page through an operation's answers; None where they are whole."""
    pages = extension.pagination
    if pages is None:
        return None
    described: Description = {
        "input_token": pages.token,
        "output_token": pages.token,
        "result_key": pages.result,
    }
    if pages.page_size is not None:
        described["limit_key"] = pages.page_size
    if pages.constant:
        described["non_aggregate_keys"] = list(pages.constant)
    return described


def shape_name(shape: Shape) -> str:
    """Returns what a shape is called in the description: as it is where it is AWS's own."""
    return shape.name if _AWS_SHAPES.get(shape.name) == shape else PREFIX + shape.name


def describe_shape(shape: Shape) -> Description:
    """Returns the description of a shape."""
    described = dict(_SIMPLE.get(type(shape), {}))
    match shape:
        case StringShape():
            described |= {"enum": list(shape.enum)} if shape.enum else {}
            described |= {"pattern": shape.pattern} if shape.pattern else {}
        case ListShape():
            described = {"type": "list", "member": {"shape": shape_name(shape.member)}}
        case MapShape():
            key, value = shape_name(shape.key), shape_name(shape.value)
            described = {"type": "map", "key": {"shape": key}, "value": {"shape": value}}
        case StructureShape():
            described = _describe_structure(shape)
    bounds = {bound: getattr(shape, bound, None) for bound in ("min", "max")}
    return described | {bound: value for bound, value in bounds.items() if value is not None}


def _describe_structure(shape: StructureShape) -> Description:
    described: Description = {
        "type": "structure",
        "members": {
            name: {"shape": shape_name(member.shape)} for name, member in shape.members.items()
        },
    }
    required = [name for name, member in shape.members.items() if member.is_required]
    if required:
        described["required"] = required
    if shape.is_union:
        described["union"] = True
    return described


def _reachable(roots: Iterable[Shape]) -> list[Shape]:
    """Returns shapes and all that they are made of, each once."""
    found: dict[str, Shape] = {}
    waiting = list(roots)
    while waiting:
        shape = waiting.pop()
        if shape.name in found:
            continue
        found[shape.name] = shape
        match shape:
            case ListShape():
                waiting.append(shape.member)
            case MapShape():
                waiting += [shape.key, shape.value]
            case StructureShape():
                waiting += [member.shape for member in shape.members.values()]
    return list(found.values())


_AWS_SHAPES: Final = {
    shape.name: shape
    for operation in OPERATIONS.values()
    for shape in _reachable([operation.input, operation.output])
}
assert not any(name.startswith(PREFIX) for name in (*_AWS_SHAPES, *ERRORS))
