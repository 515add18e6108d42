"""Makes a compiled policy of its text, and text of a policy."""

import json
from typing import Any

from whimbrel.auth.policy.conditions import compile_condition
from whimbrel.auth.policy.document import Policy, PolicyKind
from whimbrel.auth.policy.grammar import VERSION, parse_document, shorten
from whimbrel.auth.policy.limits import TEXT_BYTES_MAX, WILDCARDS_MAX
from whimbrel.auth.policy.operators import OperandError
from whimbrel.auth.policy.principals import Principals
from whimbrel.auth.policy.rules import check_document
from whimbrel.auth.policy.statement import Condition, Names, Statement
from whimbrel.auth.policy.template import Patterns, TemplateError, parse_template
from whimbrel.core.errors import PolicyError, PolicySizeError


def parse_policy(text: str, kind: PolicyKind, *, bytes_max: int, name: str = "") -> Policy:
    """Parses and checks a policy.

    Args:
        text: its JSON.
        kind: what it is to be attached to.
        bytes_max: how large it may be, as `whimbrel.auth.policy.limits` has it for what it is attached to. White
            space counts in a resource's policy only.
        name: what decisions call it by.

    Raises:
        PolicySizeError: it is too large.
        PolicyError: it is no policy of this kind.
    """
    _check_size(text, kind, bytes_max=bytes_max)
    try:
        document = parse_document(text)
    except PolicyError as error:
        if kind is PolicyKind.RESOURCE:
            raise
        raise PolicyError("", f"Syntax errors in policy. ({error.message})") from None
    _check_wildcards(document)
    check_document(document, kind)
    has_variables = document.get("Version") == VERSION
    statements = tuple(
        _compile(statement, f"Statement[{i}]", has_variables=has_variables)
        for i, statement in enumerate(document["Statement"])
    )
    weight = sum(condition.weight for one in statements for condition in one.conditions)
    return Policy(kind=kind, document=document, name=name, statements=statements, weight=weight)


def format_policy(policy: Policy) -> str:
    """Returns JSON that parses to the same policy, without white space."""
    return json.dumps(policy.document, ensure_ascii=False, separators=(",", ":"))


def _check_size(text: str, kind: PolicyKind, *, bytes_max: int) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if kind is not PolicyKind.RESOURCE:
        if size > TEXT_BYTES_MAX:
            raise PolicySizeError("", f"must have at most {TEXT_BYTES_MAX} bytes")
        size = len("".join(text.split()).encode(errors="surrogatepass"))
    if size > bytes_max:
        raise PolicySizeError("", f"must have at most {bytes_max} bytes")


def _check_wildcards(document: dict[str, Any]) -> None:
    texts = json.dumps(document["Statement"], ensure_ascii=False)  # where no escape hides them
    if texts.count("*") + texts.count("?") > WILDCARDS_MAX:
        raise PolicySizeError("", f"must have at most {WILDCARDS_MAX} wildcards")


def _compile(statement: dict[str, Any], place: str, *, has_variables: bool) -> Statement:
    is_allow = statement["Effect"] == "Allow"
    conditions = tuple(
        _condition(operator, key, operands, place, has_variables=has_variables, is_allow=is_allow)
        for operator, test in statement.get("Condition", {}).items()
        for key, operands in test.items()
    )
    is_not_principal = "NotPrincipal" in statement
    actions = _names(statement, "Action", place, has_variables=False)
    assert actions is not None  # every statement was found to have them
    resources = _names(statement, "Resource", place, has_variables=has_variables)
    return Statement(
        label=statement.get("Sid") or place,
        is_allow=is_allow,
        principals=_principals(statement.get("NotPrincipal" if is_not_principal else "Principal")),
        is_not_principal=is_not_principal,
        actions=actions,
        resources=resources,
        may_name=_is_any if resources is None else resources.outline(),
        has_resource_variables=resources is not None and bool(resources.patterns.templates),
        conditions=conditions,
    )


def _is_any(_resource: str) -> bool:
    return True


def _names(
    statement: dict[str, Any], element: str, place: str, *, has_variables: bool
) -> Names | None:
    is_negated = f"Not{element}" in statement
    name = f"Not{element}" if is_negated else element
    if name not in statement:
        return None
    texts = statement[name]
    if element == "Action":
        texts = [text.lower() for text in texts]
    try:
        templates = [
            parse_template(text, has_wildcards=True, has_variables=has_variables) for text in texts
        ]
    except TemplateError as error:
        raise PolicyError(f"{place}.{name}", str(error)) from None
    return Names(is_negated, Patterns.of(templates))


def _condition(
    operator: str,
    key: str,
    operands: list[str],
    place: str,
    *,
    has_variables: bool,
    is_allow: bool,
) -> Condition:
    try:
        return compile_condition(
            operator, key, operands, has_variables=has_variables, is_allow=is_allow
        )
    except OperandError as error:
        where = f"{place}.Condition.{shorten(operator)}.{shorten(key)}"
        raise PolicyError(where, str(error)) from None


def _principals(value: Any) -> Principals | None:
    if value is None:
        return None
    named = {"AWS": ["*"]} if value == "*" else value
    names = frozenset(named.get("AWS", ()))
    roots = {name for name in names if name.endswith(":root")}
    accounts = {name for name in names if name.isdigit()} | {name.split(":")[4] for name in roots}
    return Principals(
        is_anyone="*" in names,
        accounts=frozenset(accounts),
        arns=frozenset(name for name in names - roots if name.startswith("arn:")),
        services=frozenset(named.get("Service", ())),
    )
