"""Principals, ARNs and policies that tests of decisions speak of."""

import json
from dataclasses import dataclass

from whimbrel.auth.policy import AccessRequest, Policy, PolicyKind, parse_policy
from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX

OWN = "111122223333"
OTHER = "444455556666"
BUCKET = f"arn:aws:s3vectors:us-east-1:{OWN}:bucket/birds"
INDEX = f"{BUCKET}/index/wings"
ROLE = f"arn:aws:iam::{OWN}:role/team/reader"
GET = "s3vectors:GetVectors"


@dataclass(frozen=True)
class Person:
    """Who asks."""

    arn: str
    principal_arn: str
    account_id: str
    kind: str


def user(name="ana", account=OWN):
    arn = f"arn:aws:iam::{account}:user/{name}"
    return Person(arn, arn, account, "user")


def root(account=OWN):
    arn = f"arn:aws:iam::{account}:root"
    return Person(arn, arn, account, "root")


def session(name="s1", account=OWN):
    role = f"arn:aws:iam::{account}:role/team/reader"
    return Person(f"arn:aws:sts::{account}:assumed-role/reader/{name}", role, account, "role")


def service(name="indexing.s3vectors.amazonaws.com"):
    return Person(name, name, "", "service")


def policy_of(*statements, kind=PolicyKind.IDENTITY, name="p", version="2012-10-17") -> Policy:
    text = json.dumps({"Version": version, "Statement": list(statements)})
    return parse_policy(text, kind, bytes_max=BUCKET_BYTES_MAX, name=name)


def own(effect="Allow", action="s3vectors:*", resource="*", **more):
    """Returns a statement of an identity policy."""
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def of_bucket(principal, effect="Allow", **more):
    """Returns the policy of a vector bucket with one statement."""
    named = "*" if principal == "*" else {"AWS": principal}
    return policy_of(own(effect, Principal=named, **more), kind=PolicyKind.RESOURCE, name="bucket")


def trust(principal, effect="Allow", **more):
    statement = {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole"} | more
    return policy_of(statement, kind=PolicyKind.TRUST, name="trust")


def request(principal, action=GET, resource=INDEX, account=OWN, **context):
    return AccessRequest(action, resource, principal, account, context)
