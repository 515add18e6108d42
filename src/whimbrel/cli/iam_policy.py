"""Policies by IAM's operations, where a command needs several of them: lists, documents, and ARNs of names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from whimbrel.cli.iam_call import Call
from whimbrel.cli.refusals import MissingError

PAGE_SIZE: Final = "1000"
ARN_PARAMETERS: Final = ("PolicyArn", "PermissionsBoundary")
_ARN_PREFIX: Final = "arn:"


def list_all(call: Call, action: str, parameters: Mapping[str, Any], rows: str) -> list[Any]:
    """Returns all pages of a list.

    Args:
        call: does operations.
        action: that lists.
        parameters: of it.
        rows: the member of the answer that is the list.
    """
    found: list[Any] = []
    marker: dict[str, str] = {}
    while True:
        page = call(action, {**parameters, "MaxItems": PAGE_SIZE, **marker})
        found += page.get(rows) or []
        if not page.get("Marker"):
            return found
        marker = {"Marker": page["Marker"]}


def resolve_names(call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters with ARNs of managed policies in place of names.

    Raises:
        MissingError: the account has no policy of the name.
    """
    resolved = dict(parameters)
    for parameter in ARN_PARAMETERS:
        name = parameters.get(parameter, _ARN_PREFIX)
        if name.startswith(_ARN_PREFIX):
            continue
        known = list_all(call, "ListPolicies", _account_of(parameters), "Policies")
        arns = [policy["Arn"] for policy in known if policy["PolicyName"] == name]
        if not arns:
            hint = "`whimbrel iam policy list` shows those there are"
            raise MissingError(f"there is no managed policy of this name. name=`{name}`", hint=hint)
        resolved[parameter] = arns[0]
    return resolved


def list_held(call: Call, kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the policies of a user or role: its own, those attached, and its permissions boundary.

    Args:
        call: does operations.
        kind: `User` or `Role`.
        parameters: name it.
    """
    inline = list_all(call, f"List{kind}Policies", parameters, "PolicyNames")
    attached = list_all(call, f"ListAttached{kind}Policies", parameters, "AttachedPolicies")
    bounding = _boundary_of(call(f"Get{kind}", parameters)[kind])
    rows = [{"PolicyName": name, "Kind": "inline", "Arn": ""} for name in inline]
    for each in attached:
        name, arn = each["PolicyName"], each["PolicyArn"]
        rows.append({"PolicyName": name, "Kind": "attached", "Arn": arn})
    if bounding:
        name = bounding.rpartition("/")[2]
        rows.append({"PolicyName": name, "Kind": "boundary", "Arn": bounding})
    return {"Policies": rows}


def show_managed(call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a managed policy and the version in force, with its document."""
    policy = call("GetPolicy", parameters)["Policy"]
    asked = {**parameters, "VersionId": policy["DefaultVersionId"]}
    return {"Policy": policy, **call("GetPolicyVersion", asked)}


@dataclass(frozen=True, slots=True)
class HeldPolicies:
    """What decides on what a user or role may do.

    Attributes:
        arn: its own.
        identity: documents of policies by name, its own and those attached.
        boundary: document of its permissions boundary; None without one.
        tags: its tags.
    """

    arn: str
    identity: dict[str, str]
    boundary: str | None
    tags: dict[str, str]


def read_held(call: Call, kind: str, name: str) -> HeldPolicies:
    """Returns the policies of a user or role with their documents.

    Args:
        call: does operations.
        kind: `User` or `Role`.
        name: of it.
    """
    parameters = {f"{kind}Name": name}
    holder = call(f"Get{kind}", parameters)[kind]
    documents: dict[str, str] = {}
    boundary = None
    for row in list_held(call, kind, parameters)["Policies"]:
        if row["Kind"] == "inline":
            asked = {**parameters, "PolicyName": row["PolicyName"]}
            documents[row["PolicyName"]] = _text(call(f"Get{kind}Policy", asked)["PolicyDocument"])
            continue
        version = show_managed(call, {"PolicyArn": row["Arn"]})["PolicyVersion"]
        if row["Kind"] == "attached":
            documents[row["Arn"]] = _text(version["Document"])
        else:
            boundary = _text(version["Document"])
    tags = {tag["Key"]: tag["Value"] for tag in holder.get("Tags") or []}
    return HeldPolicies(holder["Arn"], documents, boundary, tags)


def _boundary_of(holder: Mapping[str, Any]) -> str:
    found: str = (holder.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
    return found


def _account_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"AccountId": parameters["AccountId"]} if "AccountId" in parameters else {}


def _text(document: Any) -> str:
    """Returns a document as it is written: answers have it encoded for URLs."""
    return unquote(document) if isinstance(document, str) else json.dumps(document)
