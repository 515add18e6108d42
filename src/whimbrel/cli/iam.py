"""`whimbrel iam`: users, access keys, roles, policies and accounts, of a running server or of a store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.iam_call import Call, Parameters, call_server, call_store
from whimbrel.cli.iam_policy import list_all, list_held, resolve_names, show_managed
from whimbrel.cli.report import ExitCode, print_json, print_none, print_table

DOCUMENTS: Final = frozenset({"PolicyDocument", "Document", "AssumeRolePolicyDocument"})
ACCOUNT_ACTIONS: Final = frozenset({"CreateAccount", "ListAccounts", "DeleteAccount"})
HELD_COLUMNS: Final = ("PolicyName", "Kind", "Arn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One command.

    Attributes:
        action: of IAM; with `{}` for `User` or `Role`, whichever `--user` or `--role` names.
        text: what it does.
        arguments: on the command line, by position, with the parameters that they are; `@` reads one from a file.
        options: likewise by option.
        fixed: parameters that are always the same.
        rows: the member of the answer that lists what is shown, one per line; empty shows all of the answer.
        columns: of each, what is shown.
        is_document: whether the policy's document is shown as well.
        may_be_held: whether `--user` or `--role` has those of one user or role listed.
    """

    action: str
    text: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    rows: str = ""
    columns: tuple[str, ...] = ()
    is_document: bool = False
    may_be_held: bool = False


_USER: Final = {"user": "UserName"}
_ROLE: Final = {"role": "RoleName"}
_KEY: Final = {"user": "UserName", "key_id": "AccessKeyId"}
_ARN: Final = {"arn": "PolicyArn"}
_NEW: Final = {"path": "Path", "tag": "Tags", "boundary": "PermissionsBoundary"}

TASKS: Final[dict[str, tuple[str, dict[str, Task]]]] = {
    "user": (
        "Make, show and delete users.",
        {
            "create": Task(action="CreateUser", text="Make a user.", arguments=_USER, options=_NEW),
            "list": Task(
                action="ListUsers",
                text="List users.",
                rows="Users",
                columns=("UserName", "UserId", "CreateDate", "Arn"),
            ),
            "show": Task(action="GetUser", text="Show a user.", arguments=_USER),
            "delete": Task(action="DeleteUser", text="Delete a user.", arguments=_USER),
            "tag": Task(
                action="TagUser",
                text="Tag a user.",
                arguments=_USER,
                options={"tag": "Tags"},
            ),
        },
    ),
    "key": (
        "Make, disable and delete access keys.",
        {
            "create": Task(
                action="CreateAccessKey",
                text="Make an access key for a user. Its secret is shown now and never again.",
                arguments=_USER,
            ),
            "list": Task(
                action="ListAccessKeys",
                text="List the access keys of a user.",
                arguments=_USER,
                rows="AccessKeyMetadata",
                columns=("AccessKeyId", "Status", "CreateDate"),
            ),
            "disable": Task(
                action="UpdateAccessKey",
                text="Disable an access key; it can be enabled again.",
                arguments=_KEY,
                fixed={"Status": "Inactive"},
            ),
            "enable": Task(
                action="UpdateAccessKey",
                text="Enable an access key.",
                arguments=_KEY,
                fixed={"Status": "Active"},
            ),
            "delete": Task(action="DeleteAccessKey", text="Delete an access key.", arguments=_KEY),
        },
    ),
    "role": (
        "Make, show and delete roles.",
        {
            "create": Task(
                action="CreateRole",
                text="Make a role; --trust is a file with the policy that says who may assume it.",
                arguments=_ROLE,
                options={
                    "trust": "@AssumeRolePolicyDocument",
                    "duration": "MaxSessionDuration",
                    **_NEW,
                },
            ),
            "list": Task(
                action="ListRoles",
                text="List roles.",
                rows="Roles",
                columns=("RoleName", "RoleId", "CreateDate", "Arn"),
            ),
            "show": Task(action="GetRole", text="Show a role.", arguments=_ROLE),
            "trust": Task(
                action="UpdateAssumeRolePolicy",
                text="Change who may assume a role, by a policy in a file.",
                arguments={**_ROLE, "file": "@PolicyDocument"},
            ),
            "delete": Task(action="DeleteRole", text="Delete a role.", arguments=_ROLE),
        },
    ),
    "policy": (
        "Make policies, and give them to users and roles.",
        {
            "create": Task(
                action="CreatePolicy",
                text="Make a managed policy of a file.",
                arguments={"name": "PolicyName", "file": "@PolicyDocument"},
                options={"path": "Path", "tag": "Tags"},
            ),
            "list": Task(
                action="ListPolicies",
                text="List managed policies; of a user or role, those attached, its own, and its boundary.",
                rows="Policies",
                columns=("PolicyName", "AttachmentCount", "UpdateDate", "Arn"),
                may_be_held=True,
            ),
            "show": Task(
                action="GetPolicy",
                text="Show a managed policy and its document.",
                arguments=_ARN,
                is_document=True,
            ),
            "update": Task(
                action="CreatePolicyVersion",
                text="Replace a managed policy by a file.",
                arguments={**_ARN, "file": "@PolicyDocument"},
                fixed={"SetAsDefault": "true"},
            ),
            "delete": Task(action="DeletePolicy", text="Delete a managed policy.", arguments=_ARN),
            "attach": Task(
                action="Attach{}Policy",
                text="Attach a managed policy to a user or role.",
                arguments=_ARN,
            ),
            "detach": Task(
                action="Detach{}Policy",
                text="Detach a managed policy from a user or role.",
                arguments=_ARN,
            ),
            "put": Task(
                action="Put{}Policy",
                text="Give a user or role a policy of its own, of a file.",
                arguments={"name": "PolicyName", "file": "@PolicyDocument"},
            ),
            "get": Task(
                action="Get{}Policy",
                text="Show a policy of a user's or role's own.",
                arguments={"name": "PolicyName"},
            ),
            "remove": Task(
                action="Delete{}Policy",
                text="Take a policy of its own from a user or role.",
                arguments={"name": "PolicyName"},
            ),
        },
    ),
    "account": (
        "Make and delete accounts beside the server's own.",
        {
            "create": Task(
                action="CreateAccount",
                text="Make an account and a key of its root. The secret is shown now and never again.",
                arguments={"name": "AccountName"},
            ),
            "list": Task(
                action="ListAccounts",
                text="List accounts beside the server's own.",
                rows="Accounts",
                columns=("AccountId", "AccountName", "CreateDate"),
            ),
            "delete": Task(
                action="DeleteAccount",
                text="Delete an account in which nothing is left.",
                arguments={"account": "DeletedAccountId"},
            ),
        },
    ),
}
"""Every command, by group."""

_HELP: Final = {
    "path": "Path in the ARN, from slash to slash.",
    "tag": "A tag, KEY=VALUE; may be given several times.",
    "boundary": "Name or ARN of the managed policy that bounds what it may do.",
    "trust": "File with the trust policy.",
    "duration": "Longest life of a session, 3600 to 43200 seconds.",
}

_WORDS: Final = {"AccessKeyMetadata": "access keys"}


@click.group("iam")
def command() -> None:
    """Manage users, access keys, roles, policies and accounts.

    Asks a running server, the one that AWS's variables name or this user's own, as whoever the keys belong to; or with
    --store works on a store directly, as the root of its account. ARN is that of a managed policy, or its name.
    """


def _make_command(name: str, task: Task) -> click.Command:
    is_for_holder = "{}" in task.action
    has_account = task.action not in ACCOUNT_ACTIONS

    @setting_flags(*STORE_SETTINGS, "account_id")
    @json_flag
    def run(
        *, as_json: bool, endpoint_url: str | None, in_account: str | None = None, **given: Any
    ) -> int:
        flags = {key: given.pop(key) for key in (*STORE_SETTINGS, "account_id")}
        parameters = _read_parameters(task, given)
        action = task.action
        kind = ""
        if is_for_holder or (task.may_be_held and (given["user"] or given["role"])):
            kind, holder = _read_holder(given["user"], given["role"])
            action = action.format(kind)
            parameters[f"{kind}Name"] = holder
        if in_account is not None:
            parameters["AccountId"] = in_account
        call = call_server(endpoint_url) if flags["store"] is None else call_store(flags)
        parameters = resolve_names(call, parameters)
        if task.may_be_held and kind:
            result = list_held(call, kind, parameters)
        elif task.is_document:
            result = _readable(show_managed(call, parameters))
        else:
            result = _read_all(call, action, parameters, task.rows)
        shown = replace(task, columns=HELD_COLUMNS) if task.may_be_held and kind else task
        _show(shown, result, as_json=as_json)
        return ExitCode.OK

    decorated = click.option("--endpoint-url", help="URL of the server.")(run)
    if has_account:
        decorated = click.option(
            "--in-account", help="Account to act in; another one is for the server's root alone."
        )(decorated)
    if is_for_holder or task.may_be_held:
        decorated = click.option("--role", help="Name of the role.")(decorated)
        decorated = click.option("--user", help="Name of the user.")(decorated)
    for option in task.options:
        decorated = click.option(
            f"--{option}",
            option,
            multiple=option == "tag",
            required=option == "trust",
            help=_HELP[option],
        )(decorated)
    for argument in reversed(list(task.arguments)):
        decorated = click.argument(argument)(decorated)
    return click.command(name, help=task.text)(decorated)


for _group_name, (_text, _tasks) in TASKS.items():
    _group = click.Group(_group_name, help=_text)
    for _name, _task in _tasks.items():
        _group.add_command(_make_command(_name, _task))
    command.add_command(_group)


def _read_parameters(task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(task.fixed)
    for name, parameter in {**task.arguments, **task.options}.items():
        value = given[name]
        if value is None or value == ():
            continue
        if name == "tag":
            parameters[parameter] = _read_tags(value)
        elif parameter.startswith("@"):
            parameters[parameter[1:]] = _read_file(value)
        else:
            parameters[parameter] = value
    return parameters


def _read_tags(pairs: Sequence[str]) -> dict[str, str]:
    from whimbrel.identity.tags import collect_tags

    for pair in pairs:
        if "=" not in pair:
            raise click.UsageError(f"not a tag, which is KEY=VALUE. tag=`{pair}`")
    return collect_tags((key, value) for key, _, value in (pair.partition("=") for pair in pairs))


def _read_file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read a policy. file=`{name}` error=`{error}`") from error


def _read_holder(user: str | None, role: str | None) -> tuple[str, str]:
    if (user is None) == (role is None):
        raise click.UsageError("name one of --user and --role")
    return ("User", user) if user is not None else ("Role", role or "")


def _read_all(call: Call, action: str, parameters: Parameters, rows: str) -> dict[str, Any]:
    """Returns an answer; of a list, all its pages."""
    if not rows:
        answer: dict[str, Any] = _readable(call(action, parameters))
        return answer
    return {rows: list_all(call, action, parameters, rows)}


def _readable(value: Any) -> Any:
    """Returns an answer with its policies as what they are."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: json.loads(unquote(item)) if name in DOCUMENTS else _readable(item)
        for name, item in value.items()
    }


def _show(task: Task, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    elif task.rows:
        _print_rows([[str(row[column]) for column in task.columns] for row in result[task.rows]])
        if not result[task.rows]:
            print_none(_WORDS.get(task.rows, task.rows.lower()))
    else:
        rows: dict[str, Any] = {}
        for name, value in result.items():
            is_whole = isinstance(value, dict) and name not in DOCUMENTS
            rows |= value if is_whole else {name: value}
        print_table((name, _one_line(value)) for name, value in rows.items())


def _one_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
