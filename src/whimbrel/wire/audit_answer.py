"""What the audit log says of answers: ids and ARNs of what was created or given out, and nothing else of any answer.

Names are CloudTrail's: the answer's members with their first letter lower. A member that nobody has thought of is left
out, secrets and session tokens among them.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from whimbrel.wire.query.xml import format_time

# Operations that make something, or give out credentials.
TOLD_OPERATIONS: Final = frozenset(
    {
        "AssumeRole", "CreateAccessKey", "CreateAccount", "CreateIndex", "CreateKey", "CreatePolicy",
        "CreatePolicyVersion", "CreateRole", "CreateSnapshot", "CreateUser", "CreateVectorBucket", "ForkIndex",
        "GetSessionToken",
    }
)  # fmt: skip
TOLD_MEMBERS: Final = frozenset(
    {
        "aWSAccountId", "accessKeyId", "accountId", "accountName", "arn", "assumedRoleId", "createDate",
        "creationDate", "defaultVersionId", "enabled", "expiration", "indexArn", "indexName", "isDefaultVersion",
        "keyId", "keyState", "path", "policyId", "policyName", "roleId", "roleName", "snapshotName", "status",
        "userId", "userName", "vectorBucketArn", "vectorBucketName", "versionId",
    }
)  # fmt: skip
# Of KMS, whose answers tell them as seconds.
_TIMES: Final = frozenset({"creationDate"})


def tell_answer(operation: str, answer: object) -> dict[str, Any] | None:
    """Returns what may be told of an answer; None of one that neither makes nor gives out anything.

    Args:
        operation: its name.
        answer: its members, a mapping or Struct.
    """
    if operation not in TOLD_OPERATIONS:
        return None
    return _tell(msgspec.to_builtins(answer))


def _tell(members: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for given, value in members.items():
        name = given[:1].lower() + given[1:]
        if isinstance(value, Mapping):
            told[name] = _tell(value)
        elif name in TOLD_MEMBERS:
            told[name] = format_time(value) if name in _TIMES else value
    return told
