"""How much processor time a decision about a request takes, over policies of 100 statements.

python -m bench.policy [--check]

Processor time rather than elapsed, because a decision waits for nothing. Each shape is one that a policy of that size
really has: users' own buckets, named indexes, patterns, conditions; and the worst, where every statement must be looked
at to its end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.report import Report
from whimbrel.auth.policy import AccessRequest, Policy, PolicyKind, decide, parse_policy
from whimbrel.auth.policy.document import REMEMBERED_MAX

SECTION = "policy"
STATEMENT_COUNT = 100
LIMIT_US = 50.0
ROUND_COUNT = 25
DECISION_COUNT = 400  # in a round
FRESH_COUNT = 2 * REMEMBERED_MAX  # resources by turns, so that nothing is remembered of any
BYTES_MAX = 64 * 1024  # more than any policy may have, because names of tests are long

ACCOUNT = "111122223333"
BUCKETS = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket"
RESOURCE = f"{BUCKETS}/birds/index/wings"
CONTEXT = {
    "aws:username": "ana",
    "aws:principalarn": f"arn:aws:iam::{ACCOUNT}:user/ana",
    "aws:principaltag/team": "birds",
    "aws:sourceip": "203.0.113.7",
    "aws:securetransport": "true",
}


@dataclass(frozen=True)
class Asker:
    """Who asks."""

    arn: str = f"arn:aws:iam::{ACCOUNT}:user/ana"
    principal_arn: str = f"arn:aws:iam::{ACCOUNT}:user/ana"
    account_id: str = ACCOUNT
    kind: str = "user"


def shapes() -> dict[str, Callable[[int], dict[str, Any]]]:
    """Returns by name what the n-th statement says beside `Allow`."""
    reads = ["s3vectors:Get*", "s3vectors:QueryVectors"]
    return {
        "other actions": lambda n: {"Action": f"s3vectors:Put{n}*", "Resource": "*"},
        "other indexes": lambda n: {"Action": reads, "Resource": f"{BUCKETS}/b{n}/index/wings"},
        "other prefixes": lambda n: {"Action": reads, "Resource": f"{BUCKETS}/b{n}/*"},
        "other patterns": lambda n: {
            "Action": reads,
            "Resource": f"arn:aws:s3vectors:*:*:bucket/b{n}/index/*",
        },
        "conditions": lambda n: {
            "Action": reads,
            "Resource": f"{BUCKETS}/*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/team": f"t{n}"}},
        },
        "every kind in turn": lambda n: _mixed(n, reads),
        "variables": lambda n: {
            "Action": reads,
            "Resource": f"{BUCKETS}/{n}-${{aws:username}}/*",
        },
    }


def _mixed(n: int, reads: list[str]) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"Action": "s3vectors:Put*", "Resource": "*"},
        {"Action": reads, "Resource": f"{BUCKETS}/b{n}/index/wings"},
        {"Action": reads, "Resource": [f"{BUCKETS}/b{n}", f"{BUCKETS}/b{n}/*"]},
        {"Action": reads, "Resource": f"{BUCKETS}/{n}-${{aws:username}}/*"},
        {
            "Action": reads,
            "Resource": "*",
            "Condition": {
                "Bool": {"aws:SecureTransport": "true"},
                "IpAddress": {"aws:SourceIp": f"10.{n}.0.0/16"},
            },
        },
    ]
    return kinds[n % len(kinds)]


def make_policy(shape: Callable[[int], dict[str, Any]]) -> Policy:
    """Returns a policy in which the last of 100 statements allows the request."""
    count = STATEMENT_COUNT - 1
    found = [{"Effect": "Allow"} | shape(n) for n in range(count)]
    found.append({"Effect": "Allow", "Action": "s3vectors:*", "Resource": f"{RESOURCE}*"})
    text = json.dumps({"Version": "2012-10-17", "Statement": found})
    return parse_policy(text, PolicyKind.IDENTITY, bytes_max=BYTES_MAX)


def measure(report: Report) -> None:
    """Times decisions for each shape, of a resource asked for again and again and of ever others."""
    again = [_request(RESOURCE)]
    fresh = [_request(f"{BUCKETS}/birds/index/wings-{n}") for n in range(FRESH_COUNT)]
    for name, shape in shapes().items():
        policy = make_policy(shape)
        for asked, what in ((again, "again"), (fresh, "first time")):
            samples = [_time_us(policy, asked) for _ in range(ROUND_COUNT)]
            title = f"100 statements, {name}, {what}"
            report.check(title, report.add(SECTION, title, "us CPU", samples), LIMIT_US, "us CPU")


def _request(resource: str) -> AccessRequest:
    return AccessRequest("s3vectors:GetVectors", resource, Asker(), ACCOUNT, CONTEXT)


def _time_us(policy: Policy, asked: list[AccessRequest]) -> float:
    """Returns the processor time of one decision, all of which allow."""
    requests = [asked[i % len(asked)] for i in range(max(DECISION_COUNT, len(asked)))]
    start = time.process_time_ns()
    allowed = [decide(one, identity=[policy], resource=None).is_allowed for one in requests]
    elapsed_ns = time.process_time_ns() - start
    assert all(allowed)
    return elapsed_ns / len(requests) / 1_000


def main() -> int:
    """Measures and returns the exit code."""
    parser = argparse.ArgumentParser(description="Times decisions about requests.")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    arguments = parser.parse_args()
    report = Report(settings={"statements": STATEMENT_COUNT})
    measure(report)
    return report.finish(None, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
