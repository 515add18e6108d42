"""Condition keys: what is known of a request, of who asks and of the resource, under the names that policies use.

Names are in lower case throughout; a key that has no value is not there. Source: "AWS global condition context keys",
IAM User Guide.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from whimbrel.auth import Principal, PrincipalKind
from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.engine.access import AES256, AccessFacts
from whimbrel.wire.access.rule import Members
from whimbrel.wire.origin import Origin

# What is remembered of times: pure results.
TIMES_MAX: Final = 256

Context = dict[str, str | tuple[str, ...]]

_PRINCIPAL_TYPES: Final = {
    PrincipalKind.ROOT: "Account",
    PrincipalKind.USER: "User",
    PrincipalKind.ROLE: "AssumedRole",
}

EVERY_REQUEST: Final = (
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalTag/${TagKey}",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:SecureTransport",
    "aws:SourceIp",
    "aws:TokenIssueTime",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:userid",
    "aws:username",
)
"""The keys that any request may have; `AccessRequest` itself adds `aws:ResourceAccount`."""

EVERY_RESOURCE: Final = (
    "aws:ResourceTag/${TagKey}",
    "s3vectors:VectorBucketTag/${TagKey}",
    "s3vectors:kmsKeyArn",
    "s3vectors:sseType",
)
"""The keys of every vector bucket and index."""


def describe_request(principal: Principal, origin: Origin, *, now_s: float, region: str) -> Context:
    """Returns what is known of any request.

    Args:
        principal: who asks.
        origin: from where.
        now_s: wall-clock time.
        region: of the server; whichever a request is signed for, this is the one it reached.
    """
    context: Context = {
        "aws:currenttime": _format_time(int(now_s)),
        "aws:epochtime": str(int(now_s)),
        "aws:principalaccount": principal.account_id,
        "aws:principalarn": principal.principal_arn,
        "aws:principalisawsservice": "false",
        "aws:principaltype": _PRINCIPAL_TYPES[principal.kind],
        "aws:requestedregion": region,
        "aws:securetransport": "true" if origin.is_secure else "false",
        "aws:userid": principal.user_id,
        "aws:viaawsservice": "false",
    }
    optional = {
        "aws:referer": _cut(origin.referer),
        "aws:sourceip": origin.address or None,
        "aws:useragent": _cut(origin.user_agent),
        "aws:username": principal.name if principal.kind is PrincipalKind.USER else None,
    }
    if principal.issued_at_s is not None:
        optional["aws:tokenissuetime"] = _format_time(int(principal.issued_at_s))
        # Keys for good have none, also at AWS, which is why policies ask with `BoolIfExists`.
        optional["aws:multifactorauthpresent"] = "false"
    context |= {name: value for name, value in optional.items() if value is not None}
    return context | _tags("aws:principaltag/", principal.tags)


def describe_resource(facts: AccessFacts, *, is_index: bool) -> Context:
    """Returns what is known of a vector bucket or index, which need not exist."""
    own = facts.index_tags if is_index else facts.bucket_tags
    return {
        **_encryption(facts.sse_type, facts.kms_key_arn),
        **_tags("aws:resourcetag/", own),
        **_tags("s3vectors:vectorbuckettag/", facts.bucket_tags),
    }


def describe_wish(members: Members) -> Context:
    """Returns what a request asks for that conditions know: tags, and how to encrypt.

    Args:
        members: of its input.
    """
    context: Context = {}
    tags = members.get("tags")
    if tags:
        context |= _tags("aws:requesttag/", tags)
        context["aws:tagkeys"] = tuple(tags)
    elif "tagKeys" in members:
        context["aws:tagkeys"] = tuple(members["tagKeys"])
    wanted: Mapping[str, Any] | None = members.get("encryptionConfiguration")
    secured: Mapping[str, str] | None = members.get("EncryptionContext")
    if secured:
        context |= _tags("kms:encryptioncontext:", secured)
        context["kms:encryptioncontextkeys"] = tuple(secured)
    if wanted is not None:
        context |= _encryption(wanted.get("sseType", AES256), wanted.get("kmsKeyArn"))
    return context


def _encryption(sse_type: str, key_arn: str | None) -> Context:
    context: Context = {"s3vectors:ssetype": sse_type}
    if key_arn is not None:
        context["s3vectors:kmskeyarn"] = key_arn
    return context


def _cut(text: str | None) -> str | None:
    """Returns as much of what a client says of itself as is compared; all else that it chooses has a smaller limit."""
    return None if text is None else text[:VALUE_CHARACTERS_MAX]


def _tags(prefix: str, tags: Mapping[str, str]) -> Context:
    """Returns tags as condition keys, which know no case; of two that differ in nothing else, both values count.

    Were only one to count, a tag could hide another one from a policy that denies by it, or that allows the other.
    """
    values: dict[str, list[str]] = {}
    for key, value in tags.items():
        values.setdefault(prefix + key.lower(), []).append(value)
    return {name: found[0] if len(found) == 1 else tuple(found) for name, found in values.items()}


@lru_cache(maxsize=TIMES_MAX)
def _format_time(second: int) -> str:
    return datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
