"""The form of a policy, whatever it is attached to: which elements there are, and which values each takes.

What comes out has one form for each meaning: statements, actions, resources and operands are arrays of strings, and
the principals of one kind, too. What an element may name is checked in `rules`.

Source: "Grammar of the IAM JSON policy language", AWS IAM User Guide.
"""

from typing import Any, Final

from whimbrel.core.errors import PolicyError
from whimbrel.kernel.strict_json import ScanError, parse_strict

VERSION: Final = "2012-10-17"
VERSIONS: Final = (VERSION, "2008-10-17")

_TOP: Final = {"Version", "Id", "Statement"}
_STATEMENT: Final = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
_PRINCIPAL_KINDS: Final = {"AWS", "Service", "Federated", "CanonicalUser"}
_VALUES_MAX: Final = 20_000  # more than fit in the largest policy
_TEXT_SHOWN_MAX: Final = 64

Json = dict[str, Any]


def parse_document(text: str) -> Json:
    """Returns a policy's JSON in its one form.

    Raises:
        PolicyError: it is not JSON, or not of this form.
    """
    try:
        policy = parse_strict(text.encode(), values_max=_VALUES_MAX)
    except UnicodeEncodeError:
        raise PolicyError("", "not valid JSON (it has a lone surrogate)") from None
    except ScanError as error:
        raise PolicyError("", f"not valid JSON ({error.kind} at byte {error.offset})") from None
    _check_object(policy, "the policy", allowed=_TOP, required={"Statement"})
    if "Version" in policy and policy["Version"] not in VERSIONS:
        raise PolicyError("Version", f"must be one of {', '.join(VERSIONS)}")
    if "Id" in policy and not isinstance(policy["Id"], str):
        raise PolicyError("Id", "must be a string")
    statements = policy["Statement"]
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise PolicyError("Statement", "must be a statement or a non-empty array of them")
    found = [_statement(statement, f"Statement[{i}]") for i, statement in enumerate(statements)]
    return {**policy, "Statement": found}


def shorten(text: str) -> str:
    """Returns as much of a client's text as a message holds."""
    return text[:_TEXT_SHOWN_MAX]


def _check_object(value: Any, place: str, *, allowed: set[str], required: set[str]) -> None:
    if not isinstance(value, dict):
        raise PolicyError(place, "must be an object")
    unknown = value.keys() - allowed
    if unknown:
        raise PolicyError(place, f"has an unknown element '{shorten(min(unknown))}'")
    missing = required - value.keys()
    if missing:
        raise PolicyError(place, f"must have the element {min(missing)}")


def _statement(statement: Any, place: str) -> Json:
    _check_object(statement, place, allowed=_STATEMENT, required={"Effect"})
    if statement["Effect"] not in ("Allow", "Deny"):
        raise PolicyError(f"{place}.Effect", "must be Allow or Deny")
    if not isinstance(statement.get("Sid", ""), str):
        raise PolicyError(f"{place}.Sid", "must be a string")
    for name in ("Principal", "Action", "Resource"):
        if name in statement and f"Not{name}" in statement:
            raise PolicyError(place, f"must have either {name} or Not{name}")
    found: Json = {}
    for name, value in statement.items():
        where = f"{place}.{name}"
        if name in {"Principal", "NotPrincipal"}:
            found[name] = _principal(value, where)
        elif name == "Condition":
            found[name] = _condition(value, where)
        else:
            found[name] = value if name in {"Sid", "Effect"} else _strings(value, where)
    return found


def _strings(value: Any, place: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise PolicyError(place, "must be a string or a non-empty array of strings")
    if not all(isinstance(text, str) and text for text in texts):
        raise PolicyError(place, "must be a string or a non-empty array of strings")
    return texts


def _principal(value: Any, place: str) -> Any:
    if value == "*":
        return value
    if not isinstance(value, dict) or not value:
        raise PolicyError(place, 'must be "*" or a non-empty object')
    for kind in value:
        if kind not in _PRINCIPAL_KINDS:
            raise PolicyError(place, f"has an unknown kind '{shorten(kind)}'")
    return {kind: _strings(names, f"{place}.{kind}") for kind, names in value.items()}


def _condition(value: Any, place: str) -> Json:
    if not isinstance(value, dict) or not all(isinstance(test, dict) for test in value.values()):
        raise PolicyError(place, "must be an object of objects")
    return {
        operator: {
            key: _operands(operand, f"{place}.{shorten(operator)}.{shorten(key)}")
            for key, operand in test.items()
        }
        for operator, test in value.items()
    }


def _operands(value: Any, place: str) -> list[str]:
    operands = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in operands):
        raise PolicyError(place, "must be a string, a number, a boolean or an array of them")
    return [_operand(item) for item in operands]


def _operand(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
