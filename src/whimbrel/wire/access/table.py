"""What every operation of the endpoint needs: one table, by action.

1. An operation whose action is not here cannot be asked for: a test enumerates the routes of all protocols.
2. An extension needs its own action, and all that it `covers`: who may not do something must not be able to do it
   through an extension.

Sources: "Actions, resources, and condition keys for Amazon S3 Vectors" and "... for Amazon Bedrock", AWS Service
Authorization Reference; the permissions of `QueryVectors` and `ListVectors` in their API reference.
`docs/reference/permissions.md` shows it; a test keeps the two equal.
"""

from typing import Final

from whimbrel.wire.access.rule import (
    ENCRYPTION_CONTEXT,
    ENCRYPTION_CONTEXT_KEYS,
    KMS_KEY_ARN,
    PERMISSIONS_BOUNDARY,
    POLICY_ARN,
    REQUEST_TAG,
    SSE_TYPE,
    TAG_KEYS,
    Also,
    Members,
    Rule,
    Target,
)
from whimbrel.wire.extension import Extension
from whimbrel.wire.extension_model import EXTENSIONS

GET_VECTORS: Final = "s3vectors:GetVectors"
TAG_RESOURCE: Final = "s3vectors:TagResource"
LIST_INDEXES: Final = "s3vectors:ListIndexes"
TAG_KEY: Final = "kms:TagResource"
TAG_SESSION: Final = "sts:TagSession"
EXPLAIN: Final = "whimbrel:Explain"
GET_METRICS: Final = "whimbrel:GetMetrics"

POLICY_ACTIONS: Final = frozenset(
    {
        "s3vectors:DeleteVectorBucketPolicy",
        "s3vectors:GetVectorBucketPolicy",
        "s3vectors:PutVectorBucketPolicy",
    }
)
"""What no policy can take from the root user of the account, who could else lock himself out for good."""


def _has_tags(members: Members) -> bool:
    return bool(members.get("tags"))


def _lists_content(members: Members) -> bool:
    return bool(members.get("returnData") or members.get("returnMetadata"))


def _queries_content(members: Members) -> bool:
    return "filter" in members or "queryTexts" in members or bool(members.get("returnMetadata"))


def _tagged(target: Target) -> Also:
    return Also(TAG_RESOURCE, target, "the request has tags", _has_tags)


def _tagged_session() -> Also:
    return Also(TAG_SESSION, Target.TRUSTING_ROLE, "the session has tags", _has_tags)


_OF_BUCKET: Final = Rule(targets=(Target.BUCKET,))
_OF_INDEX: Final = Rule(targets=(Target.INDEX,))
_OF_ALL: Final = Rule(targets=(Target.ALL,))
_OF_MODEL: Final = Rule(targets=(Target.MODEL,))
_CREATE_KEYS: Final = (REQUEST_TAG, TAG_KEYS, SSE_TYPE, KMS_KEY_ARN)
_READS_CONTENT: Final = "filter, queryTexts or returnMetadata is given"

_SERVICE: Final = {
    "s3vectors:CreateVectorBucket": Rule(
        targets=(Target.BUCKET,), also=(_tagged(Target.BUCKET),), keys=_CREATE_KEYS
    ),
    "s3vectors:GetVectorBucket": _OF_BUCKET,
    "s3vectors:DeleteVectorBucket": _OF_BUCKET,
    "s3vectors:ListVectorBuckets": _OF_ALL,
    "s3vectors:PutVectorBucketPolicy": _OF_BUCKET,
    "s3vectors:GetVectorBucketPolicy": _OF_BUCKET,
    "s3vectors:DeleteVectorBucketPolicy": _OF_BUCKET,
    "s3vectors:PutVectorBucketDefaultIndexMode": _OF_BUCKET,
    "s3vectors:CreateIndex": Rule(
        targets=(Target.NEW_INDEX,), also=(_tagged(Target.NEW_INDEX),), keys=_CREATE_KEYS
    ),
    "s3vectors:GetIndex": _OF_INDEX,
    "s3vectors:DeleteIndex": _OF_INDEX,
    LIST_INDEXES: _OF_BUCKET,
    "s3vectors:UpdateIndexMode": _OF_INDEX,
    "s3vectors:UpdateMetadataConfiguration": _OF_INDEX,
    "s3vectors:PutVectors": _OF_INDEX,
    GET_VECTORS: _OF_INDEX,
    "s3vectors:DeleteVectors": _OF_INDEX,
    "s3vectors:ListVectors": Rule(
        targets=(Target.INDEX,),
        also=(
            Also(
                GET_VECTORS, Target.INDEX, "returnData or returnMetadata is given", _lists_content
            ),
        ),
    ),
    "s3vectors:QueryVectors": Rule(
        targets=(Target.INDEX,),
        also=(Also(GET_VECTORS, Target.INDEX, _READS_CONTENT, _queries_content),),
    ),
    "s3vectors:ListTagsForResource": Rule(targets=(Target.TAGGED,)),
    TAG_RESOURCE: Rule(targets=(Target.TAGGED,), keys=(REQUEST_TAG, TAG_KEYS)),
    "s3vectors:UntagResource": Rule(targets=(Target.TAGGED,), keys=(TAG_KEYS,)),
}

_BEDROCK: Final = {
    "bedrock:InvokeModel": _OF_MODEL,
    "bedrock:InvokeModelWithResponseStream": _OF_MODEL,
    "bedrock:GetFoundationModel": _OF_MODEL,
    "bedrock:ListFoundationModels": _OF_ALL,
    "bedrock:ListAsyncInvokes": _OF_ALL,
    "bedrock:GetAsyncInvoke": Rule(targets=(Target.INVOCATION,)),
}

_OF_KEY: Final = Rule(targets=(Target.KMS_KEY,))
_BY_KEY: Final = Rule(targets=(Target.KMS_KEY,), keys=(ENCRYPTION_CONTEXT, ENCRYPTION_CONTEXT_KEYS))
_KMS: Final = {
    "kms:CreateKey": Rule(
        targets=(Target.ALL,),
        also=(Also(TAG_KEY, Target.ALL, "the request has tags", _has_tags),),
        keys=(REQUEST_TAG, TAG_KEYS),
    ),
    TAG_KEY: _OF_ALL,
    "kms:ListKeys": _OF_ALL,
    "kms:CancelKeyDeletion": _OF_KEY,
    "kms:Decrypt": _BY_KEY,
    "kms:DescribeKey": _OF_KEY,
    "kms:DisableKey": _OF_KEY,
    "kms:EnableKey": _OF_KEY,
    "kms:Encrypt": _BY_KEY,
    "kms:GenerateDataKey": _BY_KEY,
    "kms:GenerateDataKeyWithoutPlaintext": _BY_KEY,
    "kms:GetKeyRotationStatus": _OF_KEY,
    "kms:ListKeyRotations": _OF_KEY,
    "kms:ListResourceTags": _OF_KEY,
    "kms:RotateKeyOnDemand": _OF_KEY,
    "kms:ScheduleKeyDeletion": _OF_KEY,
}

_STS: Final = {
    "sts:GetCallerIdentity": Rule(targets=(Target.NOTHING,)),
    "sts:GetSessionToken": Rule(targets=(Target.NOTHING,)),
    "sts:GetAccessKeyInfo": _OF_ALL,
    TAG_SESSION: Rule(targets=(Target.TRUSTING_ROLE,)),
    "sts:AssumeRole": Rule(
        targets=(Target.TRUSTING_ROLE,),
        also=(_tagged_session(),),
        keys=(REQUEST_TAG, TAG_KEYS, "sts:ExternalId", "sts:RoleSessionName"),
    ),
}

_IAM_NAMES: Final = {
    Target.USER: (
        "AttachUserPolicy CreateAccessKey CreateUser DeleteAccessKey DeleteUser DeleteUserPermissionsBoundary "
        "DeleteUserPolicy DeleteLoginProfile DetachUserPolicy GetLoginProfile GetUser GetUserPolicy ListAccessKeys "
        "ListAttachedUserPolicies ListGroupsForUser ListMFADevices ListServiceSpecificCredentials "
        "ListSigningCertificates ListSSHPublicKeys ListUserPolicies ListUsers ListUserTags PutUserPermissionsBoundary "
        "PutUserPolicy TagUser UntagUser UpdateAccessKey UpdateUser"
    ),
    Target.ROLE: (
        "AttachRolePolicy CreateRole DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy DetachRolePolicy "
        "GetRole GetRolePolicy ListAttachedRolePolicies ListInstanceProfilesForRole ListRolePolicies ListRoles "
        "ListRoleTags PutRolePermissionsBoundary PutRolePolicy TagRole UntagRole UpdateAssumeRolePolicy UpdateRole"
    ),
    Target.MANAGED_POLICY: (
        "CreatePolicy CreatePolicyVersion DeletePolicy GetPolicy GetPolicyVersion ListPolicies ListPolicyVersions "
        "TagPolicy"
    ),
}
# Which of them know the permissions boundary of the user or role; those that make one or bound it, the one asked for.
_IAM_BOUNDED: Final = frozenset(
    operation.format(kind)
    for kind in ("User", "Role")
    for operation in (
        "Attach{}Policy",
        "Create{}",
        "Delete{}PermissionsBoundary",
        "Delete{}Policy",
        "Detach{}Policy",
        "Put{}PermissionsBoundary",
        "Put{}Policy",
    )
)
_IAM_TAGGED: Final = {
    Target.USER: "iam:TagUser",
    Target.ROLE: "iam:TagRole",
    Target.MANAGED_POLICY: "iam:TagPolicy",
}


def _iam_rule(name: str, target: Target) -> Rule:
    is_new = name in ("CreateUser", "CreateRole", "CreatePolicy")
    keys = [PERMISSIONS_BOUNDARY] if name in _IAM_BOUNDED else []
    if name.startswith(("Attach", "Detach")):
        keys.append(POLICY_ARN)
    if is_new or name.startswith("Tag"):
        keys += [REQUEST_TAG, TAG_KEYS]
    elif name.startswith("Untag"):
        keys.append(TAG_KEYS)
    tagged = Also(_IAM_TAGGED[target], target, "the request has tags", _has_tags)
    return Rule(targets=(target,), also=(tagged,) if is_new else (), keys=tuple(keys))


_IAM: Final = {
    f"iam:{name}": _iam_rule(name, target)
    for target, names in _IAM_NAMES.items()
    for name in names.split()
}

_ACCOUNTS: Final = {
    f"whimbrel:{name}": Rule(targets=(Target.OWNER,))
    for name in ("CreateAccount", "DeleteAccount", "ListAccounts")
}

_ENDPOINT: Final = {GET_METRICS: _OF_ALL, EXPLAIN: _OF_INDEX}

# Which resources an extension is about; those not here are about one index.
_EXTENSION_TARGETS: Final = {
    "whimbrel:ForkIndex": (Target.INDEX, Target.FORK),
    "whimbrel:ListSnapshots": (Target.LISTED,),
    "whimbrel:EmbedTexts": (Target.MODEL,),
}
# What it covers on another resource than all those.
_COVER_TARGETS: Final = {
    ("whimbrel:ForkIndex", "s3vectors:CreateIndex"): Target.FORK,
    ("whimbrel:ForkIndex", "s3vectors:PutVectors"): Target.FORK,
    ("whimbrel:ForkIndex", GET_VECTORS): Target.INDEX,
    ("whimbrel:ForkIndex", "s3vectors:ListVectors"): Target.INDEX,
    ("whimbrel:ListSnapshots", LIST_INDEXES): Target.LISTED_BUCKET,
}


def _extension_rule(extension: Extension) -> Rule:
    action = extension.action
    targets = _EXTENSION_TARGETS.get(action, (Target.INDEX,))
    also = [
        Also(covered, target)
        for covered in extension.covers
        for target in (
            (_COVER_TARGETS[action, covered],) if (action, covered) in _COVER_TARGETS else targets
        )
    ]
    takes_tags = "tags" in extension.operation.input.members
    if takes_tags:
        also.append(_tagged(targets[-1]))
    return Rule(
        targets=targets, also=tuple(also), keys=(REQUEST_TAG, TAG_KEYS) if takes_tags else ()
    )


RULES: Final[dict[str, Rule]] = {
    **_SERVICE,
    **_BEDROCK,
    **_KMS,
    **_STS,
    **_IAM,
    **_ACCOUNTS,
    **_ENDPOINT,
    **{extension.action: _extension_rule(extension) for extension in EXTENSIONS.values()},
}
