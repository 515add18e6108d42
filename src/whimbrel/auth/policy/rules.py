"""What a policy of each kind may hold: principals, actions, resources and names of statements.

Messages are those of AWS's MalformedPolicyDocument where these are known.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from whimbrel.auth.policy.document import PolicyKind
from whimbrel.auth.policy.grammar import shorten
from whimbrel.auth.policy.services import SERVICES, SERVICES_OF_BUCKETS
from whimbrel.core.errors import PolicyError

_SID: Final = re.compile(r"[0-9A-Za-z]*")
_SID_OF_RESOURCE: Final = re.compile(r"[ -~]*")  # as S3 takes them, spaces and all
_ACTION: Final = re.compile(r"[A-Za-z0-9*?-]+")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[^:]*:[^:]*:.+", re.DOTALL)
_SHORT_ARN: Final = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:(?:[^:*?]*\*?:){0,2}[^:*?]*\*")
_PARTITION: Final = re.compile(r"aws[a-z-]*")
_PRINCIPAL: Final = re.compile(
    r"\*|\d{12}|arn:aws[a-z-]*:(?:"
    r"iam::\d{12}:(?:root|(?:user|role)/[\w+=,.@/-]+)"
    r"|sts::\d{12}:(?:assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))",
    re.ASCII,
)
_SERVICE_NAME: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_KEY: Final = re.compile(r"[\w.-]+:.+", re.DOTALL)
_NAMES_PRINCIPALS: Final = frozenset({PolicyKind.RESOURCE, PolicyKind.TRUST})


def check_document(policy: dict[str, Any], kind: PolicyKind) -> None:
    """Checks what the elements of a policy name.

    Args:
        policy: its document, in the form that `grammar` gives.
        kind: what it is attached to.

    Raises:
        PolicyError: something in it does not fit the kind, or is not known.
    """
    statements = policy["Statement"]
    for i, statement in enumerate(statements):
        place = f"Statement[{i}]"
        _check_sid(statement.get("Sid", ""), f"{place}.Sid", kind)
        _check_principals(statement, place, kind)
        _check_actions(statement, place, kind)
        _check_resources(statement, place, kind)
        _check_keys(statement.get("Condition", {}))
    sids = [sid for statement in statements if (sid := statement.get("Sid"))]
    if len(set(sids)) != len(sids):
        raise PolicyError("", "Statement IDs (SID) in a single policy must be unique.")


def _check_sid(sid: str, place: str, kind: PolicyKind) -> None:
    if kind is PolicyKind.RESOURCE:
        if not _SID_OF_RESOURCE.fullmatch(sid):
            raise PolicyError(place, "must consist of printable ASCII characters")
    elif not _SID.fullmatch(sid):
        raise PolicyError(
            "",
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression "
            "[0-9A-Za-z]*",
        )


def _check_principals(statement: dict[str, Any], place: str, kind: PolicyKind) -> None:
    is_negated = "NotPrincipal" in statement
    element = "NotPrincipal" if is_negated else "Principal"
    if kind not in _NAMES_PRINCIPALS:
        if element in statement:
            raise PolicyError("", "Policy document should not specify a principal.")
        return
    if element not in statement:
        raise PolicyError(place, "must have either Principal or NotPrincipal")
    if is_negated and kind is PolicyKind.TRUST:
        raise PolicyError("", "Has prohibited field NotPrincipal")
    if is_negated and statement["Effect"] == "Allow":
        raise PolicyError(f"{place}.NotPrincipal", "must be used with Effect Deny")
    named = statement[element]
    if named == "*":
        return
    for name in named.get("AWS", ()):
        if not _PRINCIPAL.fullmatch(name):
            raise PolicyError("", f'Invalid principal in policy: "AWS":"{shorten(name)}"')
    for name in named.get("Service", ()):
        if not _SERVICE_NAME.fullmatch(name):
            raise PolicyError("", f'Invalid principal in policy: "SERVICE":"{shorten(name)}"')


def _check_actions(statement: dict[str, Any], place: str, kind: PolicyKind) -> None:
    actions = statement.get("Action", statement.get("NotAction"))
    if actions is None:
        raise _missing("Action", "actions", place, kind)
    for action in actions:
        _check_action(action, kind)


def _check_action(action: str, kind: PolicyKind) -> None:
    if kind is PolicyKind.TRUST and not action.lower().startswith("sts:"):
        raise PolicyError("", "AssumeRole policy may only specify STS AssumeRole actions.")
    if action == "*":
        return
    vendor, colon, name = action.partition(":")
    if not colon:
        raise PolicyError(
            "", "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
        )
    if ":" in name:
        raise PolicyError("", "Actions/Condition can contain only one colon.")
    known = SERVICES_OF_BUCKETS if kind is PolicyKind.RESOURCE else SERVICES
    if vendor.lower() not in known and action != "*:*":
        raise PolicyError("", f"Vendor {shorten(vendor)} is not valid")
    if not _ACTION.fullmatch(name):
        raise PolicyError("", f"Invalid Action: {shorten(action)}")


def _check_resources(statement: dict[str, Any], place: str, kind: PolicyKind) -> None:
    element = "NotResource" if "NotResource" in statement else "Resource"
    if kind is PolicyKind.TRUST:
        if element in statement:
            raise PolicyError("", f"Has prohibited field {element}")
        return
    if element not in statement:
        raise _missing("Resource", "resources", place, kind)
    for resource in statement[element]:
        if resource != "*":
            _check_resource(resource)


def _check_resource(resource: str) -> None:
    shown = shorten(resource)
    if not resource.startswith("arn:"):
        raise PolicyError("", f'Resource {shown} must be in ARN format or "*".')
    partition, _, rest = resource.removeprefix("arn:").partition(":")
    if not _PARTITION.fullmatch(partition):
        raise PolicyError(
            "", f'Partition "{shorten(partition)}" is not valid for resource "{shown}".'
        )
    service, colon, rest = rest.partition(":")
    if not colon or not service or any(character in service for character in "*?$"):
        raise PolicyError("", "Resource vendor must be fully qualified and cannot contain regexes.")
    if "${" in ":".join(rest.split(":", 2)[:2]):
        raise PolicyError("", f"Resource {shown} has a policy variable before its fifth colon.")
    if not (_ARN.fullmatch(resource) or _SHORT_ARN.fullmatch(resource)):
        raise PolicyError("", f'Resource {shown} must be in ARN format or "*".')


def _check_keys(condition: dict[str, dict[str, Any]]) -> None:
    for key in _keys(condition):
        if not _KEY.fullmatch(key):
            raise PolicyError(
                "", "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            )


def _keys(condition: dict[str, dict[str, Any]]) -> Iterable[str]:
    return (key for test in condition.values() for key in test)


def _missing(element: str, plural: str, place: str, kind: PolicyKind) -> PolicyError:
    if kind is PolicyKind.RESOURCE:
        return PolicyError(place, f"must have either {element} or Not{element}")
    return PolicyError("", f"Policy statement must contain {plural}.")
