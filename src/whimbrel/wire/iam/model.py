"""The parameters of IAM's operations, as far as they are here, and of our own beside them.

AWS's shapes, by hand: of 160 operations these are in use. A test compares them with the model that botocore ships.
"""

from typing import Final

from whimbrel.wire.shape import (
    BooleanShape,
    IntegerShape,
    ListShape,
    Member,
    Shape,
    StringShape,
    StructureShape,
)

API_VERSION: Final = "2010-05-08"
NAMESPACE: Final = "https://iam.amazonaws.com/doc/2010-05-08/"

_WORD: Final = r"[A-Za-z0-9_+=,.@-]+"
_TAG: Final = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]"

NEW_NAME: Final = StringShape("userNameType", 1, 64, pattern=_WORD)
NAME: Final = StringShape("existingUserNameType", 1, 128, pattern=_WORD)
ROLE_NAME: Final = StringShape("roleNameType", 1, 64, pattern=_WORD)
POLICY_NAME: Final = StringShape("policyNameType", 1, 128, pattern=_WORD)
PATH: Final = StringShape("pathType", 1, 512, pattern=r"(\u002F)|(\u002F[\u0021-\u007E]+\u002F)")
POLICY_PATH: Final = StringShape("policyPathType", 1, 512, pattern=r"((/[A-Za-z0-9\.,\+@=_-]+)*)/")
PATH_PREFIX: Final = StringShape("pathPrefixType", 1, 512, pattern=r"\u002F[\u0021-\u007F]*")
ARN: Final = StringShape("arnType", 20, 2048)
DOCUMENT: Final = StringShape("policyDocumentType", 1, 131072)
KEY_ID: Final = StringShape("accessKeyIdType", 16, 128, pattern=r"[\w]+")
STATUS: Final = StringShape("statusType", enum=("Active", "Inactive", "Expired"))
VERSION_ID: Final = StringShape("policyVersionIdType", pattern=r"v[1-9][0-9]*(\.[A-Za-z0-9-]*)?")
POLICY_DESCRIPTION: Final = StringShape("policyDescriptionType", max=1000)
ROLE_DESCRIPTION: Final = StringShape(
    "roleDescriptionType",
    max=1000,
    pattern=r"[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*",
)
SESSION_S: Final = IntegerShape("roleMaxSessionDurationType", 3600, 43200)
MARKER: Final = StringShape("markerType", 1, 320, pattern=r"[\u0020-\u00FF]+")
MAX_ITEMS: Final = IntegerShape("maxItemsType", 1, 1000)
FLAG: Final = BooleanShape("booleanType")
SCOPE: Final = StringShape("policyScopeType", enum=("All", "AWS", "Local"))
TAG_KEY: Final = StringShape("tagKeyType", 1, 128, pattern=_TAG + "+")
TAG_VALUE: Final = StringShape("tagValueType", 0, 256, pattern=_TAG + "*")
TAG: Final = StructureShape(
    "Tag", {"Key": Member(TAG_KEY, is_required=True), "Value": Member(TAG_VALUE, is_required=True)}
)
TAGS: Final = ListShape("tagListType", TAG, max=50)
TAG_KEYS: Final = ListShape("tagKeyListType", TAG_KEY, max=50)
ACCOUNT_ID: Final = StringShape("accountIdType", 12, 12, pattern=r"[0-9]+")
ACCOUNT_NAME: Final = StringShape("accountNameType", 1, 50, pattern=r"[\u0020-\u007E]+")

_PAGE: Final[dict[str, Shape]] = {"Marker": MARKER, "MaxItems": MAX_ITEMS}


def _input(name: str, required: dict[str, Shape], optional: dict[str, Shape]) -> StructureShape:
    members = {key: Member(shape, is_required=True) for key, shape in required.items()}
    members |= {key: Member(shape) for key, shape in optional.items()}
    return StructureShape(f"{name}Request", members)


_USER: Final[dict[str, Shape]] = {"UserName": NAME}
_ATTACHING_USER: Final[dict[str, Shape]] = {"UserName": NEW_NAME}
_ROLE: Final[dict[str, Shape]] = {"RoleName": ROLE_NAME}

_PARAMETERS: Final[dict[str, tuple[dict[str, Shape], dict[str, Shape]]]] = {
    # users
    "CreateUser": (
        {"UserName": NEW_NAME},
        {"Path": PATH, "PermissionsBoundary": ARN, "Tags": TAGS},
    ),
    "GetUser": ({}, _USER),
    "ListUsers": ({}, {"PathPrefix": PATH_PREFIX, **_PAGE}),
    "UpdateUser": (_USER, {"NewPath": PATH, "NewUserName": NEW_NAME}),
    "DeleteUser": (_USER, {}),
    "TagUser": ({**_USER, "Tags": TAGS}, {}),
    "UntagUser": ({**_USER, "TagKeys": TAG_KEYS}, {}),
    "ListUserTags": (_USER, _PAGE),
    "PutUserPermissionsBoundary": ({**_ATTACHING_USER, "PermissionsBoundary": ARN}, {}),
    "DeleteUserPermissionsBoundary": (_ATTACHING_USER, {}),
    # what nobody has here
    "GetLoginProfile": ({}, _ATTACHING_USER),
    "DeleteLoginProfile": ({}, _ATTACHING_USER),
    "ListGroupsForUser": (_USER, _PAGE),
    "ListInstanceProfilesForRole": (_ROLE, _PAGE),
    "ListMFADevices": ({}, {**_USER, **_PAGE}),
    "ListServiceSpecificCredentials": ({}, {**_ATTACHING_USER, **_PAGE}),
    "ListSigningCertificates": ({}, {**_USER, **_PAGE}),
    "ListSSHPublicKeys": ({}, {**_ATTACHING_USER, **_PAGE}),
    # access keys
    "CreateAccessKey": ({}, _USER),
    "ListAccessKeys": ({}, {**_USER, **_PAGE}),
    "UpdateAccessKey": ({"AccessKeyId": KEY_ID, "Status": STATUS}, _USER),
    "DeleteAccessKey": ({"AccessKeyId": KEY_ID}, _USER),
    # policies of a user's own, and attached ones
    "PutUserPolicy": ({**_USER, "PolicyName": POLICY_NAME, "PolicyDocument": DOCUMENT}, {}),
    "GetUserPolicy": ({**_USER, "PolicyName": POLICY_NAME}, {}),
    "ListUserPolicies": (_USER, _PAGE),
    "DeleteUserPolicy": ({**_USER, "PolicyName": POLICY_NAME}, {}),
    "AttachUserPolicy": ({**_ATTACHING_USER, "PolicyArn": ARN}, {}),
    "DetachUserPolicy": ({**_ATTACHING_USER, "PolicyArn": ARN}, {}),
    "ListAttachedUserPolicies": (_ATTACHING_USER, {"PathPrefix": POLICY_PATH, **_PAGE}),
    # managed policies
    "CreatePolicy": (
        {"PolicyName": POLICY_NAME, "PolicyDocument": DOCUMENT},
        {"Path": POLICY_PATH, "Description": POLICY_DESCRIPTION, "Tags": TAGS},
    ),
    "GetPolicy": ({"PolicyArn": ARN}, {}),
    "ListPolicies": (
        {},
        {"Scope": SCOPE, "OnlyAttached": FLAG, "PathPrefix": POLICY_PATH, **_PAGE},
    ),
    "DeletePolicy": ({"PolicyArn": ARN}, {}),
    "CreatePolicyVersion": ({"PolicyArn": ARN, "PolicyDocument": DOCUMENT}, {"SetAsDefault": FLAG}),
    "GetPolicyVersion": ({"PolicyArn": ARN, "VersionId": VERSION_ID}, {}),
    "ListPolicyVersions": ({"PolicyArn": ARN}, _PAGE),
    # roles
    "CreateRole": (
        {**_ROLE, "AssumeRolePolicyDocument": DOCUMENT},
        {
            "Path": PATH,
            "Description": ROLE_DESCRIPTION,
            "MaxSessionDuration": SESSION_S,
            "PermissionsBoundary": ARN,
            "Tags": TAGS,
        },
    ),
    "GetRole": (_ROLE, {}),
    "ListRoles": ({}, {"PathPrefix": PATH_PREFIX, **_PAGE}),
    "UpdateRole": (_ROLE, {"Description": ROLE_DESCRIPTION, "MaxSessionDuration": SESSION_S}),
    "DeleteRole": (_ROLE, {}),
    "UpdateAssumeRolePolicy": ({**_ROLE, "PolicyDocument": DOCUMENT}, {}),
    "TagRole": ({**_ROLE, "Tags": TAGS}, {}),
    "UntagRole": ({**_ROLE, "TagKeys": TAG_KEYS}, {}),
    "ListRoleTags": (_ROLE, _PAGE),
    "PutRolePermissionsBoundary": ({**_ROLE, "PermissionsBoundary": ARN}, {}),
    "DeleteRolePermissionsBoundary": (_ROLE, {}),
    "PutRolePolicy": ({**_ROLE, "PolicyName": POLICY_NAME, "PolicyDocument": DOCUMENT}, {}),
    "GetRolePolicy": ({**_ROLE, "PolicyName": POLICY_NAME}, {}),
    "ListRolePolicies": (_ROLE, _PAGE),
    "DeleteRolePolicy": ({**_ROLE, "PolicyName": POLICY_NAME}, {}),
    "AttachRolePolicy": ({**_ROLE, "PolicyArn": ARN}, {}),
    "DetachRolePolicy": ({**_ROLE, "PolicyArn": ARN}, {}),
    "ListAttachedRolePolicies": (_ROLE, {"PathPrefix": POLICY_PATH, **_PAGE}),
    # accounts, which are of this project
    "CreateAccount": ({"AccountName": ACCOUNT_NAME}, {"NewAccountId": ACCOUNT_ID}),
    "ListAccounts": ({}, _PAGE),
    "DeleteAccount": ({"DeletedAccountId": ACCOUNT_ID}, {}),
}

ACCOUNT_OPERATIONS: Final = frozenset({"CreateAccount", "ListAccounts", "DeleteAccount"})
"""Operations that AWS's IAM does not have; for the server's root alone."""

INPUTS: Final[dict[str, StructureShape]] = {
    name: _input(name, required, optional) for name, (required, optional) in _PARAMETERS.items()
}
"""The parameters of each operation, by its name."""
