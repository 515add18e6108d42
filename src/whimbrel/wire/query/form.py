"""Reading the form of a request: its action, and its parameters by the shapes of the service model.

Lists come as `Tags.member.1.Key=...`; an empty one as `Tags=`. Parameters that an operation does not have are passed
over, as AWS does.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.errors import FormError
from whimbrel.wire.shape import (
    BooleanShape,
    IntegerShape,
    ListShape,
    Shape,
    StringShape,
    StructureShape,
)

FIELD_COUNT_MAX: Final = 150  # fifty tags, and the rest
DEPTH_MAX: Final = 8
_DIGITS_MAX: Final = 9
_MEMBER: Final = "member"

Tree = dict[str, Any]


class Form:
    """The parameters of a request.

    Attributes:
        action: what is asked for.
        tree: parameters, nested by the dots of their names.
    """

    def __init__(self, action: str, tree: Tree) -> None:
        self.action = action
        self.tree = tree

    def decode(self, shape: StructureShape) -> dict[str, Any]:
        """Returns the members of an operation's input that were sent.

        Raises:
            InvalidRequestError: one is not of its type.
        """
        return _decode_structure(shape, self.tree)


def parse_form(body: bytes, *, version: str) -> Form:
    """Reads a form.

    Args:
        body: of the request.
        version: of the API, which may be left out.

    Raises:
        FormError: the body is no form, names no action, or another version.
    """
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELD_COUNT_MAX
        )
    except ValueError:
        raise FormError("MalformedQueryString", "The request body is not a form") from None
    tree: Tree = {}
    for name, value in pairs:
        _plant(tree, name, value)
    action = tree.get("Action")
    if not action or not isinstance(action, str):
        raise FormError("MissingAction", "The request must contain the parameter Action")
    if tree.get("Version", version) != version:
        raise unknown_action(action, str(tree["Version"]))
    return Form(action, tree)


def tell_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters under the names that records of the audit log have for them."""
    return {name[:1].lower() + name[1:]: value for name, value in given.items()}


def unknown_action(action: str, version: str) -> FormError:
    """Makes the refusal of an action that an API does not have."""
    text = f"Could not find operation {action[:64]} for version {version[:64]}"
    return FormError("InvalidAction", text)


def _plant(tree: Tree, name: str, value: str) -> None:
    """Puts a parameter in its place; of one that was sent twice, or as a leaf and a branch, the last counts."""
    *branches, leaf = name.split(".", DEPTH_MAX)
    for branch in branches:
        below = tree.get(branch)
        if not isinstance(below, dict):
            below = tree[branch] = {}
        tree = below
    tree[leaf] = value


def _decode_structure(shape: StructureShape, tree: Tree) -> dict[str, Any]:
    return {
        name: _decode(member.shape, tree[name], name)
        for name, member in shape.members.items()
        if name in tree
    }


def _decode(shape: Shape, found: Any, name: str) -> Any:
    match shape:
        case StringShape() if isinstance(found, str):
            return found
        case IntegerShape() if isinstance(found, str):
            return _decode_integer(found, name)
        case BooleanShape() if found in ("true", "false"):
            return found == "true"
        case ListShape():
            return _decode_list(shape, found, name)
        case StructureShape() if isinstance(found, dict):
            return _decode_structure(shape, found)
    raise InvalidRequestError(f"The value of the parameter {name} is not of its type")


def _decode_integer(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        raise InvalidRequestError(f"The value of the parameter {name} is not a number")
    return int(text)


def _decode_list(shape: ListShape, found: Any, name: str) -> list[Any]:
    if found == "":
        return []
    members = found.get(_MEMBER) if isinstance(found, dict) else None
    if not isinstance(members, dict):
        raise InvalidRequestError(f"The value of the parameter {name} is not a list")
    by_number = {_decode_integer(number, name): item for number, item in members.items()}
    return [_decode(shape.member, by_number[number], name) for number in sorted(by_number)]
