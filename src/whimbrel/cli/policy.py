"""`whimbrel policy`: checks policies, and says what they would decide of a request and why."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from whimbrel.cli.flags import json_flag
from whimbrel.cli.report import ExitCode, print_json, print_table

if TYPE_CHECKING:
    from whimbrel.auth.policy import AccessRequest, Decision, Finding, Policy, PolicyKind
    from whimbrel.cli.iam_policy import HeldPolicies

STANDARD_INPUT: Final = "-"
TEXT_BYTES_MAX: Final = 1 << 20  # what is read of a file, far above any limit of a policy
_NO_POLICY: Final = "bucket policy could not be found"  # in AWS's message, as opposed to no bucket


@click.group("policy")
def command() -> None:
    """Check policies, and see what they decide and why.

    FILE is a policy as JSON; - reads standard input. docs/reference/policies.md has the language and the rules.
    """


@command.command("check")
@click.argument("file")
@click.option(
    "--kind",
    type=click.Choice(["identity", "resource", "trust", "session"]),
    required=True,
    help="What it is to be attached to: users and roles, a vector bucket, who may assume a role, a session.",
)
@click.option(
    "--bytes-max",
    type=click.IntRange(1),
    metavar="BYTES",
    help="How large it may be; without it, the most that any policy of its kind may have.",
)
@json_flag
def check(*, file: str, kind: str, bytes_max: int | None, as_json: bool) -> None:
    """Check a policy as the server would when it is put."""
    from whimbrel.auth.policy import PolicyKind

    policy = _read(file, PolicyKind(kind), bytes_max=bytes_max)
    if as_json:
        print_json({"kind": kind, "policy": policy.document})
        return
    click.echo(f"a policy of kind {kind}, statements: {len(policy.statements)}")


@command.command("simulate")
@click.option("--principal", metavar="ARN", help="Who asks; a role asks in a session of it.")
@click.option(
    "--user",
    metavar="NAME",
    help="User of a running server who asks, with the policies it has there.",
)
@click.option("--role", metavar="NAME", help="Likewise a role of a running server.")
@click.option("--action", required=True, metavar="ACTION", help="Such as s3vectors:PutVectors.")
@click.option("--resource", required=True, metavar="ARN", help="What it is asked of.")
@click.option(
    "--identity",
    multiple=True,
    metavar="FILE",
    help="Identity policy of who asks; repeatable.",
)
@click.option("--bucket-policy", metavar="FILE", help="Policy of the vector bucket.")
@click.option(
    "--trust", metavar="FILE", help="Trust policy of the role, where the action is sts:AssumeRole."
)
@click.option(
    "--bucket",
    metavar="NAME",
    help="Vector bucket of a running server whose own policy takes part.",
)
@click.option("--boundary", metavar="FILE", help="Permissions boundary of who asks.")
@click.option(
    "--session", multiple=True, metavar="FILE", help="Policy handed in for the session; repeatable."
)
@click.option(
    "--context",
    multiple=True,
    metavar="KEY=VALUE",
    help="Condition key of the request; repeatable, also for a key with several values.",
)
@click.option(
    "--resource-account",
    metavar="ID",
    help="Who owns the resource; without it, the account in its ARN.",
)
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="Address of the server that --bucket, --user and --role are on, such as http://127.0.0.1:7676.",
)
@click.option("--fail", "is_failing", is_flag=True, help="Exit 1 when the request would be denied.")
@json_flag
def simulate(  # noqa: PLR0913 - one parameter for each flag
    *,
    principal: str | None,
    user: str | None,
    role: str | None,
    action: str,
    resource: str,
    identity: tuple[str, ...],
    bucket_policy: str | None,
    trust: str | None,
    bucket: str | None,
    boundary: str | None,
    session: tuple[str, ...],
    context: tuple[str, ...],
    resource_account: str | None,
    endpoint_url: str | None,
    is_failing: bool,
    as_json: bool,
) -> int:
    """Say whether policies would allow a request, which statement decided, and why others did not match.

    Exits 0 also when it would be denied, unless --fail is given.
    """
    from whimbrel.auth.policy import PolicyKind, decide, explain
    from whimbrel.cli.policy_request import find_doubts, make_request

    if sum(one is not None for one in (principal, user, role)) != 1:
        raise click.UsageError("give one of --principal, --user and --role")
    held = _read_held(user, role, endpoint_url)
    if sum(one is not None for one in (bucket_policy, trust, bucket)) > 1:
        raise click.UsageError("give one of --bucket-policy, --bucket and --trust")
    asked = make_request(
        principal=principal or (held.arn if held else ""),
        action=action,
        resource=resource,
        account=resource_account,
        context=(*(_tag_context(held) if held else ()), *context),
    )
    for doubt in find_doubts(action, resource):
        click.echo(f"warning: {doubt}", err=True)
    resource_policy: Policy | None = None
    if bucket is not None:
        resource_policy = _fetch(bucket, endpoint_url)
    elif bucket_policy is not None:
        resource_policy = _read(bucket_policy, PolicyKind.RESOURCE)
    elif trust is not None:
        resource_policy = _read(trust, PolicyKind.TRUST)
    identities = [_read(file, PolicyKind.IDENTITY) for file in identity]
    limit = None if boundary is None else _read(boundary, PolicyKind.IDENTITY)
    if held is not None:
        identities += [_parse_held(text, name) for name, text in held.identity.items()]
        if limit is None and held.boundary is not None:
            limit = _parse_held(held.boundary, "boundary")
    limits = [_read(file, PolicyKind.SESSION) for file in session]
    decision = decide(
        asked, identity=identities, resource=resource_policy, boundary=limit, session=limits
    )
    findings = explain(
        asked, identity=identities, resource=resource_policy, boundary=limit, session=limits
    )
    show = _show_json if as_json else _show
    show(asked, decision, findings)
    return ExitCode.FAILED if is_failing and not decision.is_allowed else ExitCode.OK


def _read_held(
    user: str | None, role: str | None, endpoint_url: str | None
) -> "HeldPolicies | None":
    """Returns the policies that a server has of a user or role; None where neither is named."""
    from whimbrel.cli.iam_call import call_server
    from whimbrel.cli.iam_policy import read_held

    if user is None and role is None:
        return None
    kind = "User" if user is not None else "Role"
    return read_held(call_server(endpoint_url), kind, user or role or "")


def _tag_context(held: "HeldPolicies") -> list[str]:
    return [f"aws:PrincipalTag/{key}={value}" for key, value in held.tags.items()]


def _parse_held(text: str, name: str) -> "Policy":
    from whimbrel.auth.policy import PolicyKind, parse_policy
    from whimbrel.auth.policy.limits import BYTES_MAX

    kind = PolicyKind.IDENTITY
    return parse_policy(text, kind, bytes_max=BYTES_MAX[kind], name=name)


def _read(file: str, kind: "PolicyKind", *, bytes_max: int | None = None) -> "Policy":
    from whimbrel.auth.policy import parse_policy
    from whimbrel.auth.policy.limits import BYTES_MAX
    from whimbrel.core.errors import PolicyError

    try:
        if file == STANDARD_INPUT:
            data = sys.stdin.buffer.read(TEXT_BYTES_MAX)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(TEXT_BYTES_MAX)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read the policy {file}: {error}") from error
    try:
        return parse_policy(text, kind, bytes_max=bytes_max or BYTES_MAX[kind], name=file)
    except PolicyError as error:
        raise PolicyError("", f"{error.message} file=`{file}`") from error


def _fetch(bucket: str, endpoint_url: str | None) -> "Policy | None":
    """Returns the policy of a vector bucket of a server; None when it has none."""
    from whimbrel.auth.policy import PolicyKind, parse_policy
    from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX
    from whimbrel.cli.refusals import MissingError
    from whimbrel.cli.server_call import open_caller

    try:
        with open_caller(endpoint_url) as caller:
            answer = caller.call("GetVectorBucketPolicy", {"vectorBucketName": bucket})
    except MissingError as error:
        if _NO_POLICY in str(error):
            return None
        raise
    return parse_policy(
        answer["policy"], PolicyKind.RESOURCE, bytes_max=BUCKET_BYTES_MAX, name=bucket
    )


def _show_json(
    asked: "AccessRequest", decision: "Decision", findings: tuple["Finding", ...]
) -> None:
    print_json(
        {
            "allowed": decision.is_allowed,
            "reason": str(decision.reason),
            "layer": decision.layer and str(decision.layer),
            "policy": decision.policy,
            "statement": decision.statement,
            "refusal": "" if decision.is_allowed else decision.refusal(asked.action),
            "context": dict(asked.context),
            "statements": [dataclasses.asdict(finding) for finding in findings],
        }
    )


def _show(asked: "AccessRequest", decision: "Decision", findings: tuple["Finding", ...]) -> None:
    from whimbrel.auth.policy import Reason

    click.echo("allowed" if decision.is_allowed else "denied")
    if decision.statement:
        by = f"{decision.statement} of the {decision.layer} {decision.policy}"
    elif decision.reason is Reason.ROOT:
        by = "nobody needs to: it is the root user of the account"
    else:
        by = "no statement"
    rows = [("decided by", by)]
    if not decision.is_allowed:
        rows.append(("why", decision.refusal(asked.action)))
    print_table(rows)
    if findings:
        click.echo("\nstatements")
    print_table(
        (
            f"  {finding.policy} {finding.statement}",
            f"{finding.effect} {'matches' if finding.matches else 'does not match'}"
            + (f": {finding.why}" if finding.why else ""),
        )
        for finding in findings
    )
