"""The operations of IAM: each takes a call and returns what the answer says, None when it says nothing."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from whimbrel.auth.policy import PolicyKind, parse_policy
from whimbrel.core.aws_keys import GENERATED_PREFIX
from whimbrel.core.errors import IdentityNotFoundError, InvalidRequestError
from whimbrel.identity import changes
from whimbrel.identity.document import compact_policy
from whimbrel.identity.model import (
    AccountEntry,
    Holder,
    HolderKind,
    KeyEntry,
    PolicyEntry,
    RoleEntry,
    UserEntry,
)
from whimbrel.identity.principals import DOCUMENT_BYTES_MAX
from whimbrel.identity.secrets import (
    POLICY_ID_PREFIX,
    ROLE_ID_PREFIX,
    USER_ID_PREFIX,
    make_secret,
    make_unique_id,
    secret_name,
)
from whimbrel.identity.state import IdentityState, fold
from whimbrel.wire.iam import shown
from whimbrel.wire.iam.call import IamCall, Result, read_tags
from whimbrel.wire.query.xml import format_time

Handler = Callable[[IamCall], Awaitable[Result | None]]

ONE_VERSION_TEXT: Final = (
    "Only the default version of a policy is kept: pass SetAsDefault, which replaces the document"
)


def _check_policy(document: str, kind: PolicyKind = PolicyKind.IDENTITY) -> str:
    """Returns a policy that was found to be one, as it is stored.

    Raises:
        PolicyError: it is none.
    """
    parse_policy(document, kind, bytes_max=DOCUMENT_BYTES_MAX)
    return compact_policy(document)


# --- users ---------------------------------------------------------------------------------------


async def create_user(call: IamCall) -> Result:
    """CreateUser."""
    given = call.input
    entry = UserEntry(
        name=given["UserName"],
        unique_id=make_unique_id(USER_ID_PREFIX, call.identities.context.random),
        path=given.get("Path", "/"),
        created_at_s=call.now_s,
        tags=read_tags(given),
    )
    boundary = given.get("PermissionsBoundary")
    state = await call.change(
        lambda state: changes.create_user(state, call.account_id, entry, boundary_arn=boundary)
    )
    made = changes.expect_user(state, call.account_id, entry.name)
    return {"User": shown.show_user(state, call.account_id, made)}


async def get_user(call: IamCall) -> Result:
    """GetUser; without a name, who asks."""
    name = call.user_name
    state = await call.read_of_user(name)
    if not name:
        account = state.account(call.account_id).entry
        created_at_s = 0.0 if account is None else account.created_at_s
        return {"User": shown.show_root(call.account_id, created_at_s=created_at_s)}
    entry = changes.expect_user(state, call.account_id, name)
    return {"User": shown.show_user(state, call.account_id, entry)}


async def list_users(call: IamCall) -> Result:
    """ListUsers."""
    state, prefix = await call.read(), call.input.get("PathPrefix", "/")
    users = state.account(call.account_id).users.values()
    return call.page(
        "Users",
        (entry for entry in users if entry.path.startswith(prefix)),
        name=lambda entry: entry.name,
        shown=lambda entry: shown.show_user(state, call.account_id, entry, is_whole=False),
    )


async def update_user(call: IamCall) -> None:
    """UpdateUser."""
    given = call.input
    await call.change(
        lambda state: changes.update_user(
            state,
            call.account_id,
            given["UserName"],
            new_name=given.get("NewUserName"),
            new_path=given.get("NewPath"),
        )
    )


async def delete_holder(call: IamCall) -> None:
    """DeleteUser and DeleteRole."""
    await call.change(lambda state: changes.delete_holder(state, call.holder))


async def tag_holder(call: IamCall) -> None:
    """TagUser and TagRole."""
    tags = read_tags(call.input)
    await call.change(lambda state: changes.tag_holder(state, call.holder, tags))


async def untag_holder(call: IamCall) -> None:
    """UntagUser and UntagRole."""
    keys = call.input["TagKeys"]
    await call.change(lambda state: changes.untag_holder(state, call.holder, keys))


async def list_holder_tags(call: IamCall) -> Result:
    """ListUserTags and ListRoleTags."""
    tags = changes.expect_holder(await call.read(), call.holder).tags
    return call.page(
        "Tags",
        tags.items(),
        name=lambda pair: pair[0],
        shown=lambda pair: {"Key": pair[0], "Value": pair[1]},
    )


async def put_boundary(call: IamCall) -> None:
    """PutUserPermissionsBoundary and PutRolePermissionsBoundary."""
    arn = call.input["PermissionsBoundary"]
    await call.change(lambda state: changes.set_boundary(state, call.holder, arn))


async def delete_boundary(call: IamCall) -> None:
    """DeleteUserPermissionsBoundary and DeleteRolePermissionsBoundary."""
    await call.change(lambda state: changes.set_boundary(state, call.holder, None))


# --- what nobody has here, and tools ask for before they delete a user or role ----------------------------


async def _expect_named(call: IamCall) -> None:
    if "RoleName" in call.input:
        changes.expect_role(await call.read(), call.account_id, call.input["RoleName"])
    elif name := call.user_name:
        changes.expect_user(await call.read_of_user(name), call.account_id, name)


def list_none(member: str) -> Handler:
    """Makes the operation that lists, under a member of its answer, what no user or role has."""

    async def list_nothing(call: IamCall) -> Result:
        await _expect_named(call)
        return {member: [], "IsTruncated": False}

    return list_nothing


async def refuse_login_profile(call: IamCall) -> Result:
    """GetLoginProfile and DeleteLoginProfile.

    Raises:
        IdentityNotFoundError: always.
    """
    await _expect_named(call)
    raise IdentityNotFoundError(f"Login Profile for User {call.user_name} cannot be found.")


# --- access keys ---------------------------------------------------------------------------------


def make_key(call: IamCall) -> tuple[str, str, KeyEntry]:
    """Returns id, secret and entry of a new access key."""
    random = call.identities.context.random
    key_id, secret = make_unique_id(GENERATED_PREFIX, random), make_secret(random)
    wrapped = call.identities.secrets.wrap(secret_name(key_id), secret.encode())
    return key_id, secret, KeyEntry(call.now_s, wrapped)


async def create_key(call: IamCall) -> Result:
    """CreateAccessKey; without a name, for who asks. Nobody is ever told the secret again."""
    name = call.user_name
    key_id, secret, key = make_key(call)
    await call.change(lambda state: changes.create_key(state, call.account_id, name, key_id, key))
    made = shown.show_key(name or call.account_id, key_id, key)
    created = made.pop("CreateDate")
    return {"AccessKey": {**made, "SecretAccessKey": secret, "CreateDate": created}}


async def list_keys(call: IamCall) -> Result:
    """ListAccessKeys; without a name, of who asks."""
    name = call.user_name
    state = await call.read_of_user(name)
    if not name and call.account_id == call.identities.account_id:
        # The key that the server was started with, which is none of the store's.
        own = call.principal.access_key_id
        keys: Mapping[str, KeyEntry] = {own: KeyEntry(0.0, b"")} if own else {}
    else:
        keys = changes.expect_keys(state, call.account_id, name)
    return call.page(
        "AccessKeyMetadata",
        keys.items(),
        name=lambda pair: pair[0],
        shown=lambda pair: shown.show_key(name or call.account_id, *pair),
    )


async def update_key(call: IamCall) -> None:
    """UpdateAccessKey.

    Raises:
        InvalidRequestError: the status is one that is for AWS to set.
    """
    key_id, status = call.input["AccessKeyId"], call.input["Status"]
    if status not in (shown.ACTIVE, shown.INACTIVE):
        raise InvalidRequestError(f"A key cannot be made {status}")
    name, is_active = call.user_name, status == shown.ACTIVE
    await call.change(
        lambda state: changes.set_key_active(
            state, call.account_id, name, key_id, is_active=is_active
        )
    )


async def delete_key(call: IamCall) -> None:
    """DeleteAccessKey."""
    name, key_id = call.user_name, call.input["AccessKeyId"]
    await call.change(lambda state: changes.delete_key(state, call.account_id, name, key_id))


# --- policies of a user's or role's own, and attached ones ------------------------------------------


async def put_inline(call: IamCall) -> None:
    """PutUserPolicy and PutRolePolicy."""
    name, document = call.input["PolicyName"], _check_policy(call.input["PolicyDocument"])
    await call.change(lambda state: changes.put_inline(state, call.holder, name, document))


async def get_inline(call: IamCall) -> Result:
    """GetUserPolicy and GetRolePolicy."""
    state, holder, name = await call.read(), call.holder, call.input["PolicyName"]
    document = changes.expect_inline(state, holder, name)
    member = "UserName" if holder.kind is HolderKind.USER else "RoleName"
    return {
        member: changes.expect_holder(state, holder).name,
        "PolicyName": name,
        "PolicyDocument": shown.show_document(document),
    }


async def list_inline(call: IamCall) -> Result:
    """ListUserPolicies and ListRolePolicies."""
    names = changes.expect_holder(await call.read(), call.holder).inline
    return call.page("PolicyNames", names, name=str, shown=str)


async def delete_inline(call: IamCall) -> None:
    """DeleteUserPolicy and DeleteRolePolicy."""
    name = call.input["PolicyName"]
    await call.change(lambda state: changes.delete_inline(state, call.holder, name))


async def attach(call: IamCall) -> None:
    """AttachUserPolicy and AttachRolePolicy."""
    arn = call.input["PolicyArn"]
    await call.change(lambda state: changes.attach(state, call.holder, arn))


async def detach(call: IamCall) -> None:
    """DetachUserPolicy and DetachRolePolicy."""
    arn = call.input["PolicyArn"]
    await call.change(lambda state: changes.detach(state, call.holder, arn))


async def list_attached(call: IamCall) -> Result:
    """ListAttachedUserPolicies and ListAttachedRolePolicies."""
    state, prefix = await call.read(), call.input.get("PathPrefix", "/")
    policies = state.account(call.account_id).policies
    entries = [policies[fold(name)] for name in changes.expect_holder(state, call.holder).attached]
    return call.page(
        "AttachedPolicies",
        [entry for entry in entries if entry.path.startswith(prefix)],
        name=lambda entry: entry.name,
        shown=lambda entry: {
            "PolicyName": entry.name,
            "PolicyArn": changes.policy_arn(call.account_id, entry),
        },
    )


# --- managed policies ----------------------------------------------------------------------------


async def create_policy(call: IamCall) -> Result:
    """CreatePolicy."""
    given, now_s = call.input, call.now_s
    entry = PolicyEntry(
        name=given["PolicyName"],
        unique_id=make_unique_id(POLICY_ID_PREFIX, call.identities.context.random),
        path=given.get("Path", "/"),
        created_at_s=now_s,
        updated_at_s=now_s,
        document=_check_policy(given["PolicyDocument"]),
        description=given.get("Description", ""),
        tags=read_tags(given),
    )
    state = await call.change(lambda state: changes.create_policy(state, call.account_id, entry))
    return {"Policy": _show_policy(state, call, entry)}


def _show_policy(state: IdentityState, call: IamCall, entry: PolicyEntry) -> Result:
    uses = changes.count_uses(state, call.account_id)
    return shown.show_policy(call.account_id, entry, uses)


def _expect_policy(state: IdentityState, call: IamCall) -> PolicyEntry:
    return changes.expect_policy(state, call.account_id, call.input["PolicyArn"])


async def get_policy(call: IamCall) -> Result:
    """GetPolicy."""
    state = await call.read()
    return {"Policy": _show_policy(state, call, _expect_policy(state, call))}


async def list_policies(call: IamCall) -> Result:
    """ListPolicies."""
    state, given = await call.read(), call.input
    prefix, uses = given.get("PathPrefix", "/"), changes.count_uses(state, call.account_id)
    entries = [
        entry
        for entry in state.account(call.account_id).policies.values()
        if entry.path.startswith(prefix)
        and given.get("Scope") != "AWS"
        and (not given.get("OnlyAttached") or any(use[entry.name] for use in uses))
    ]
    return call.page(
        "Policies",
        entries,
        name=lambda entry: entry.name,
        shown=lambda entry: shown.show_policy(call.account_id, entry, uses, is_whole=False),
    )


async def delete_policy(call: IamCall) -> None:
    """DeletePolicy."""
    arn = call.input["PolicyArn"]
    await call.change(lambda state: changes.delete_policy(state, call.account_id, arn))


async def create_version(call: IamCall) -> Result:
    """CreatePolicyVersion, which replaces the one version that is kept.

    Raises:
        InvalidRequestError: the version shall not be the default one.
    """
    if not call.input.get("SetAsDefault"):
        raise InvalidRequestError(ONE_VERSION_TEXT)
    arn, document = call.input["PolicyArn"], _check_policy(call.input["PolicyDocument"])
    now_s = call.now_s
    state = await call.change(
        lambda state: changes.replace_policy(
            state, call.account_id, arn, document=document, now_s=now_s
        )
    )
    return {"PolicyVersion": shown.show_version(_expect_policy(state, call), is_whole=False)}


async def get_version(call: IamCall) -> Result:
    """GetPolicyVersion.

    Raises:
        IdentityNotFoundError: it is not the version that is kept.
    """
    entry, version = _expect_policy(await call.read(), call), call.input["VersionId"]
    if version != f"v{entry.version}":
        arn = call.input["PolicyArn"]
        raise IdentityNotFoundError(f"Policy {arn} version {version} does not exist.")
    return {"PolicyVersion": shown.show_version(entry, is_whole=True)}


async def list_versions(call: IamCall) -> Result:
    """ListPolicyVersions: the one that is kept."""
    entry = _expect_policy(await call.read(), call)
    return call.page(
        "Versions",
        [entry],
        name=lambda entry: f"v{entry.version}",
        shown=lambda entry: shown.show_version(entry, is_whole=False),
    )


# --- roles ---------------------------------------------------------------------------------------


async def create_role(call: IamCall) -> Result:
    """CreateRole."""
    given = call.input
    entry = RoleEntry(
        name=given["RoleName"],
        unique_id=make_unique_id(ROLE_ID_PREFIX, call.identities.context.random),
        path=given.get("Path", "/"),
        created_at_s=call.now_s,
        trust=_check_policy(given["AssumeRolePolicyDocument"], PolicyKind.TRUST),
        description=given.get("Description", ""),
        session_s_max=given.get("MaxSessionDuration", 3600),
        tags=read_tags(given),
    )
    boundary = given.get("PermissionsBoundary")
    state = await call.change(
        lambda state: changes.create_role(state, call.account_id, entry, boundary_arn=boundary)
    )
    made = changes.expect_role(state, call.account_id, entry.name)
    return {"Role": shown.show_role(state, call.account_id, made)}


async def get_role(call: IamCall) -> Result:
    """GetRole."""
    state = await call.read()
    entry = changes.expect_role(state, call.account_id, call.input["RoleName"])
    return {"Role": shown.show_role(state, call.account_id, entry)}


async def list_roles(call: IamCall) -> Result:
    """ListRoles."""
    state, prefix = await call.read(), call.input.get("PathPrefix", "/")
    roles = state.account(call.account_id).roles.values()
    return call.page(
        "Roles",
        (entry for entry in roles if entry.path.startswith(prefix)),
        name=lambda entry: entry.name,
        shown=lambda entry: shown.show_role(state, call.account_id, entry, is_whole=False),
    )


async def update_role(call: IamCall) -> Result:
    """UpdateRole."""
    given = call.input
    await call.change(
        lambda state: changes.update_role(
            state,
            call.account_id,
            given["RoleName"],
            description=given.get("Description"),
            session_s_max=given.get("MaxSessionDuration"),
        )
    )
    return {}


async def update_trust(call: IamCall) -> None:
    """UpdateAssumeRolePolicy."""
    trust = _check_policy(call.input["PolicyDocument"], PolicyKind.TRUST)
    await call.change(
        lambda state: changes.update_role(
            state, call.account_id, call.input["RoleName"], trust=trust
        )
    )


# --- accounts ------------------------------------------------------------------------------------


async def create_account(call: IamCall) -> Result:
    """CreateAccount: an account beside the server's own, and a key of its root."""
    account_id = call.input.get("NewAccountId") or _make_account_id(call)
    key_id, secret, key = make_key(call)
    entry = AccountEntry(
        name=call.input["AccountName"], created_at_s=call.now_s, keys={key_id: key}
    )
    await call.change(
        lambda state: changes.create_account(
            state, account_id, entry, own_account_id=call.identities.account_id
        )
    )
    return {
        "Account": shown.show_account(account_id, entry),
        "AccessKey": {
            "UserName": account_id,
            "AccessKeyId": key_id,
            "Status": shown.ACTIVE,
            "SecretAccessKey": secret,
            "CreateDate": format_time(key.created_at_s),
        },
    }


def _make_account_id(call: IamCall) -> str:
    # Not beginning with a zero, which spreadsheets and YAML take away.
    number = int.from_bytes(call.identities.context.random.token(8), "big")
    return str(10**11 + number % (9 * 10**11))


async def list_accounts(call: IamCall) -> Result:
    """ListAccounts: those beside the server's own."""
    accounts = (await call.read()).accounts
    entries = [(number, account.entry) for number, account in accounts.items()]
    return call.page(
        "Accounts",
        [(number, entry) for number, entry in entries if entry is not None],
        name=lambda pair: pair[0],
        shown=lambda pair: shown.show_account(*pair),
    )


async def delete_account(call: IamCall) -> None:
    """DeleteAccount, of an empty one."""
    account_id = call.input["DeletedAccountId"]
    await call.change(lambda state: changes.delete_account(state, account_id))


HANDLERS: Final[dict[str, Handler]] = {
    "CreateUser": create_user,
    "GetUser": get_user,
    "ListUsers": list_users,
    "UpdateUser": update_user,
    "GetLoginProfile": refuse_login_profile,
    "DeleteLoginProfile": refuse_login_profile,
    "ListGroupsForUser": list_none("Groups"),
    "ListInstanceProfilesForRole": list_none("InstanceProfiles"),
    "ListMFADevices": list_none("MFADevices"),
    "ListServiceSpecificCredentials": list_none("ServiceSpecificCredentials"),
    "ListSigningCertificates": list_none("Certificates"),
    "ListSSHPublicKeys": list_none("SSHPublicKeys"),
    "CreateAccessKey": create_key,
    "ListAccessKeys": list_keys,
    "UpdateAccessKey": update_key,
    "DeleteAccessKey": delete_key,
    "CreatePolicy": create_policy,
    "GetPolicy": get_policy,
    "ListPolicies": list_policies,
    "DeletePolicy": delete_policy,
    "CreatePolicyVersion": create_version,
    "GetPolicyVersion": get_version,
    "ListPolicyVersions": list_versions,
    "CreateRole": create_role,
    "GetRole": get_role,
    "ListRoles": list_roles,
    "UpdateRole": update_role,
    "UpdateAssumeRolePolicy": update_trust,
    "CreateAccount": create_account,
    "ListAccounts": list_accounts,
    "DeleteAccount": delete_account,
    **{
        operation.format(kind): handler
        for kind in ("User", "Role")
        for operation, handler in {
            "Delete{}": delete_holder,
            "Tag{}": tag_holder,
            "Untag{}": untag_holder,
            "List{}Tags": list_holder_tags,
            "Put{}PermissionsBoundary": put_boundary,
            "Delete{}PermissionsBoundary": delete_boundary,
            "Put{}Policy": put_inline,
            "Get{}Policy": get_inline,
            "List{}Policies": list_inline,
            "Delete{}Policy": delete_inline,
            "Attach{}Policy": attach,
            "Detach{}Policy": detach,
            "ListAttached{}Policies": list_attached,
        }.items()
    },
}
"""What does each operation of `model.INPUTS`, by its name."""


OWN_OPERATIONS: Final = frozenset(
    {
        "CreateAccessKey",
        "DeleteAccessKey",
        "DeleteLoginProfile",
        "GetLoginProfile",
        "GetUser",
        "ListAccessKeys",
        "ListMFADevices",
        "ListServiceSpecificCredentials",
        "ListSigningCertificates",
        "ListSSHPublicKeys",
        "UpdateAccessKey",
    }
)
"""Those that mean who asks where no user is named."""


def find_resource(
    name: str, given: Mapping[str, Any], account_id: str, state: IdentityState
) -> str:
    """Returns the ARN that policies know the object of an operation by.

    Args:
        name: of the operation.
        given: its parameters; where one names no user, who asks is meant and named in them by now.
        account_id: of the account.
        state: says the path of what there is; of what there is not, it is taken from the parameters.
    """
    arn = f"arn:aws:iam::{account_id}:"
    if "PolicyArn" in given and "UserName" not in given and "RoleName" not in given:
        return str(given["PolicyArn"])
    path = given.get("Path", given.get("PathPrefix", "/"))
    for kind, member in ((HolderKind.USER, "UserName"), (HolderKind.ROLE, "RoleName")):
        if member in given:
            entry = state.find_holder(Holder(account_id, kind, given[member]))
            if entry is not None:
                return shown.holder_arn(account_id, entry)
            return f"{arn}{kind}{path}{given[member]}"
    if name == "CreatePolicy":
        return f"{arn}policy{path}{given['PolicyName']}"
    for noun, word in (("User", "user"), ("Role", "role"), ("Polic", "policy")):
        if name.startswith(f"List{noun}"):
            return f"{arn}{word}{path}"
    return f"{arn}root" if name in OWN_OPERATIONS else "*"


def find_new_resource(
    given: Mapping[str, Any], account_id: str, state: IdentityState
) -> tuple[str, str] | None:
    """Returns name and ARN that UpdateUser gives a user; None for another operation.

    Who renames needs permission on both, or a name that policies speak of could be put on and off.
    """
    if "NewUserName" not in given and "NewPath" not in given:
        return None
    entry = state.find_holder(Holder(account_id, HolderKind.USER, given["UserName"]))
    name = given.get("NewUserName", given["UserName"])
    path = given.get("NewPath", "/" if entry is None else entry.path)
    return name, f"arn:aws:iam::{account_id}:user{path}{name}"
