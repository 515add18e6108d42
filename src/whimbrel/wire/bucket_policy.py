"""Whether a vector bucket's policy is a policy: its size, its JSON, its grammar.

Meaning is not judged: a statement may name another vector bucket, an unknown region or an action that does not
exist, as at AWS. AWS's own texts for malformed policies are unknown; ours say where the fault is.

Source of the grammar: "Grammar of the IAM JSON policy language", AWS IAM User Guide.
"""

from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.kernel.strict_json import ScanError, parse_strict

POLICY_BYTES_MAX: Final = 20 * 1024
VERSIONS: Final = ("2012-10-17", "2008-10-17")

_TOP = {"Version", "Id", "Statement"}
_STATEMENT = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
_PRINCIPAL_KINDS = {"AWS", "Service", "Federated", "CanonicalUser"}


def check_policy(text: str) -> None:
    """Checks the policy of a vector bucket.

    Raises:
        InvalidRequestError: it is too long, not JSON, or breaks the policy grammar.
    """
    data = text.encode()
    if len(data) > POLICY_BYTES_MAX:
        raise _refuse(f"must have at most {POLICY_BYTES_MAX} bytes")
    try:
        policy = parse_strict(data)
    except ScanError as error:
        raise _refuse(f"not valid JSON ({error.kind} at byte {error.offset})") from None
    _check_object(policy, "the policy", allowed=_TOP, required={"Statement"})
    if "Version" in policy and policy["Version"] not in VERSIONS:
        raise _refuse(f"Version must be one of {', '.join(VERSIONS)}")
    if "Id" in policy and not isinstance(policy["Id"], str):
        raise _refuse("Id must be a string")
    statements = policy["Statement"]
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise _refuse("Statement must be a statement or a non-empty array of them")
    for i, statement in enumerate(statements):
        _check_statement(statement, f"Statement[{i}]")


def _refuse(detail: str) -> InvalidRequestError:
    message = f"Invalid vector bucket policy: {detail}"
    return InvalidRequestError(message, ("policy", message))


def _check_object(value: Any, place: str, *, allowed: set[str], required: set[str]) -> None:
    if not isinstance(value, dict):
        raise _refuse(f"{place} must be an object")
    unknown = value.keys() - allowed
    if unknown:
        raise _refuse(f"{place} has an unknown element '{min(unknown)[:64]}'")
    missing = required - value.keys()
    if missing:
        raise _refuse(f"{place} must have the element {min(missing)}")


def _check_statement(statement: Any, place: str) -> None:
    _check_object(statement, place, allowed=_STATEMENT, required={"Effect"})
    if statement["Effect"] not in ("Allow", "Deny"):
        raise _refuse(f"{place}.Effect must be Allow or Deny")
    if not isinstance(statement.get("Sid", ""), str):
        raise _refuse(f"{place}.Sid must be a string")
    _check_principal(_one_of(statement, "Principal", place), f"{place}.Principal")
    for name in ("Action", "Resource"):
        if not _is_strings(_one_of(statement, name, place)):
            raise _refuse(f"{place}.{name} must be a string or a non-empty array of strings")
    if "Condition" in statement:
        _check_condition(statement["Condition"], f"{place}.Condition")


def _one_of(statement: dict[str, Any], name: str, place: str) -> Any:
    if (name in statement) == (f"Not{name}" in statement):
        raise _refuse(f"{place} must have either {name} or Not{name}")
    return statement[name] if name in statement else statement[f"Not{name}"]


def _is_strings(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)


def _check_principal(value: Any, place: str) -> None:
    if value == "*":
        return
    if not isinstance(value, dict) or not value:
        raise _refuse(f'{place} must be "*" or a non-empty object')
    for kind, names in value.items():
        if kind not in _PRINCIPAL_KINDS:
            raise _refuse(f"{place} has an unknown kind '{kind[:64]}'")
        if not _is_strings(names):
            raise _refuse(f"{place}.{kind} must be a string or a non-empty array of strings")


def _check_condition(value: Any, place: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(test, dict) for test in value.values()):
        raise _refuse(f"{place} must be an object of objects")
    for operator, test in value.items():
        for key, operand in test.items():
            operands = operand if isinstance(operand, list) else [operand]
            if not all(isinstance(item, str | int | float) for item in operands):
                raise _refuse(
                    f"{place}.{operator[:64]}.{key[:64]} must be a string, a number, a boolean or an array of them"
                )
