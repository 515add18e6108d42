"""A request that was never sent, for `whimbrel policy simulate`: made of ARNs and of `key=value`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from whimbrel.auth.policy import AccessRequest, ContextValue

SESSION_NAME: Final = "simulated"

_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_IDENTITY: Final = re.compile(r"arn:[a-z-]+:iam::(\d{12}):(root|user|role)(?:/(.+))?", re.ASCII)
_SESSION: Final = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/[^/]+", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.ASCII)
_ARN: Final = re.compile(r"arn:[^:*]+:[^:*]+:[^:]*:[^:]*:.+", re.ASCII | re.DOTALL)
_RESOURCE_ACCOUNT: Final = re.compile(r"arn:[^:]+:[^:]+:[^:]*:(\d{12}):.+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SimulatedPrincipal:
    """Who would ask, as policies know principals."""

    arn: str
    principal_arn: str
    account_id: str
    kind: str

    def context(self) -> dict[str, ContextValue]:
        """Returns the condition keys that follow from the ARN alone."""
        if self.kind == "service":
            return {"aws:principalisawsservice": "true", "aws:principalservicename": self.arn}
        keys: dict[str, ContextValue] = {
            "aws:principalarn": self.principal_arn,
            "aws:principalaccount": self.account_id,
            "aws:principalisawsservice": "false",
            "aws:principaltype": {"root": "Account", "user": "User"}.get(self.kind, "AssumedRole"),
        }
        if self.kind == "user":
            keys["aws:username"] = self.arn.rpartition("/")[2]
        return keys


def parse_principal(text: str) -> SimulatedPrincipal:
    """Reads an ARN, an account id (its root user) or the name of a service; a role asks in a session of it.

    The ARN of a session leaves out the path of its role: where the role has one, name the role.

    Raises:
        click.UsageError: it is none of them.
    """
    if _ACCOUNT.fullmatch(text):
        return parse_principal(f"arn:aws:iam::{text}:root")
    if found := _SESSION.fullmatch(text):
        partition, account_id, role = found.groups()
        role_arn = f"arn:{partition}:iam::{account_id}:role/{role}"
        return SimulatedPrincipal(text, role_arn, account_id, "role")
    if found := _IDENTITY.fullmatch(text):
        account_id, kind, name = found.groups()
        if (kind == "root") is (name is None):
            arn = text
            if kind == "role":
                partition, role = text.split(":")[1], name.rpartition("/")[2]
                arn = f"arn:{partition}:sts::{account_id}:assumed-role/{role}/{SESSION_NAME}"
            return SimulatedPrincipal(arn, text, account_id, kind)
    if _SERVICE.fullmatch(text):
        return SimulatedPrincipal(text, text, "", "service")
    raise click.UsageError(
        f"--principal is no ARN of a user, role, session or root, no account id and no service: {text}"
    )


def make_request(
    *, principal: str, action: str, resource: str, account: str | None, context: Sequence[str]
) -> AccessRequest:
    """Makes a request of what the flags say.

    Args:
        principal: as `parse_principal` takes it.
        action: such as `s3vectors:PutVectors`.
        resource: an ARN.
        account: who owns the resource; None takes it from the ARN, or else from the principal.
        context: `key=value` each; a key that is there twice has both values.

    Raises:
        click.UsageError: one of them is not of its form.
    """
    who = parse_principal(principal)
    if ":" not in action or "*" in action:
        raise click.UsageError(f"--action is no action, such as s3vectors:PutVectors: {action}")
    found = _RESOURCE_ACCOUNT.fullmatch(resource)
    return AccessRequest(
        action=action,
        resource=resource,
        principal=who,
        resource_account=account or (found[1] if found else who.account_id),
        context=who.context() | _parse_context(context),
    )


def find_doubts(action: str, resource: str) -> list[str]:
    """Returns what is odd about a request that nobody could send to a server: most likely a slip of the pen."""
    from whimbrel.wire.access.table import RULES

    doubts = []
    if action.lower() not in {known.lower() for known in RULES}:
        doubts.append(f"no operation here is of this action. action=`{action}`")
    if resource != "*" and not _ARN.fullmatch(resource):
        doubts.append(f"the resource is no ARN. resource=`{resource}`")
    return doubts


def _parse_context(pairs: Sequence[str]) -> dict[str, ContextValue]:
    values: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or ":" not in key:
            raise click.UsageError(
                f"--context is no KEY=VALUE, such as aws:SourceIp=10.0.0.1: {pair}"
            )
        values[key.lower()] = (*values.get(key.lower(), ()), value)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}
