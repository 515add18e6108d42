"""Entries as IAM's answers show them. Policies are shown percent-encoded, as AWS does."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from whimbrel.identity.changes import Uses, policy_arn
from whimbrel.identity.model import (
    AccountEntry,
    KeyEntry,
    PolicyEntry,
    RoleEntry,
    UserEntry,
)
from whimbrel.identity.state import IdentityState, fold
from whimbrel.wire.iam.call import Result
from whimbrel.wire.query.xml import XmlValue, format_time

ACTIVE: Final = "Active"
INACTIVE: Final = "Inactive"


def holder_arn(account_id: str, entry: UserEntry | RoleEntry) -> str:
    """Returns the ARN of a user or role."""
    kind = "user" if isinstance(entry, UserEntry) else "role"
    return f"arn:aws:iam::{account_id}:{kind}{entry.path}{entry.name}"


def boundary_arn(
    state: IdentityState, account_id: str, entry: UserEntry | RoleEntry | None
) -> str | None:
    """Returns the ARN of the policy that bounds a user or role; None without one."""
    if entry is None or entry.boundary is None:
        return None
    return policy_arn(account_id, state.account(account_id).policies[fold(entry.boundary)])


def show_document(document: str) -> str:
    """Returns a policy as answers hold it."""
    return quote(document, safe="")


def show_tags(tags: Mapping[str, str]) -> XmlValue:
    """Returns tags in order of key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def show_user(
    state: IdentityState, account_id: str, entry: UserEntry, *, is_whole: bool = True
) -> Result:
    """Returns a user; lists leave out its tags and boundary."""
    result: Result = {
        "Path": entry.path,
        "UserName": entry.name,
        "UserId": entry.unique_id,
        "Arn": holder_arn(account_id, entry),
        "CreateDate": format_time(entry.created_at_s),
    }
    if is_whole:
        result |= _boundary_and_tags(state, account_id, entry)
    return result


def show_root(account_id: str, *, created_at_s: float) -> Result:
    """Returns the root of an account, as GetUser does."""
    return {
        "Path": "/",
        "UserName": account_id,
        "UserId": account_id.rjust(16, "0"),
        "Arn": f"arn:aws:iam::{account_id}:root",
        "CreateDate": format_time(created_at_s),
    }


def show_role(
    state: IdentityState, account_id: str, entry: RoleEntry, *, is_whole: bool = True
) -> Result:
    """Returns a role; lists leave out its tags and boundary."""
    result: Result = {
        "Path": entry.path,
        "RoleName": entry.name,
        "RoleId": entry.unique_id,
        "Arn": holder_arn(account_id, entry),
        "CreateDate": format_time(entry.created_at_s),
        "AssumeRolePolicyDocument": show_document(entry.trust),
    }
    if entry.description:
        result["Description"] = entry.description
    result["MaxSessionDuration"] = entry.session_s_max
    if is_whole:
        result |= _boundary_and_tags(state, account_id, entry)
    return result


def _boundary_and_tags(
    state: IdentityState, account_id: str, entry: UserEntry | RoleEntry
) -> Result:
    result: Result = {}
    boundary = boundary_arn(state, account_id, entry)
    if boundary is not None:
        result["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": boundary,
        }
    if entry.tags:
        result["Tags"] = show_tags(entry.tags)
    return result


def show_policy(
    account_id: str, entry: PolicyEntry, uses: Uses, *, is_whole: bool = True
) -> Result:
    """Returns a managed policy; lists leave out its description and tags."""
    result: Result = {
        "PolicyName": entry.name,
        "PolicyId": entry.unique_id,
        "Arn": policy_arn(account_id, entry),
        "Path": entry.path,
        "DefaultVersionId": f"v{entry.version}",
        "AttachmentCount": uses.attached[entry.name],
        "PermissionsBoundaryUsageCount": uses.bounding[entry.name],
        "IsAttachable": True,
    }
    if is_whole and entry.description:
        result["Description"] = entry.description
    result["CreateDate"] = format_time(entry.created_at_s)
    result["UpdateDate"] = format_time(entry.updated_at_s)
    if is_whole and entry.tags:
        result["Tags"] = show_tags(entry.tags)
    return result


def show_version(entry: PolicyEntry, *, is_whole: bool) -> Result:
    """Returns the one version of a managed policy that is kept, with its document or without."""
    result: Result = {"Document": show_document(entry.document)} if is_whole else {}
    result |= {
        "VersionId": f"v{entry.version}",
        "IsDefaultVersion": True,
        "CreateDate": format_time(entry.updated_at_s),
    }
    return result


def show_key(user_name: str, key_id: str, key: KeyEntry) -> Result:
    """Returns an access key without its secret."""
    return {
        "UserName": user_name,
        "AccessKeyId": key_id,
        "Status": ACTIVE if key.is_active else INACTIVE,
        "CreateDate": format_time(key.created_at_s),
    }


def show_account(account_id: str, entry: AccountEntry) -> Result:
    """Returns an account."""
    return {
        "AccountId": account_id,
        "AccountName": entry.name,
        "CreateDate": format_time(entry.created_at_s),
    }
