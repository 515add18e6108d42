"""The policy language of IAM: parsing, checking and evaluating policies, without input or output.

`parse_policy` compiles a policy once; `decide` answers one request from compiled policies.
"""

from whimbrel.auth.policy.decision import Decision, Layer, Reason
from whimbrel.auth.policy.document import Policy, PolicyKind
from whimbrel.auth.policy.evaluation import decide
from whimbrel.auth.policy.explanation import Finding, explain
from whimbrel.auth.policy.parsing import format_policy, parse_policy
from whimbrel.auth.policy.request import AccessRequest, ContextValue, PolicyPrincipal

__all__ = [
    "AccessRequest",
    "ContextValue",
    "Decision",
    "Finding",
    "Layer",
    "Policy",
    "PolicyKind",
    "PolicyPrincipal",
    "Reason",
    "decide",
    "explain",
    "format_policy",
    "parse_policy",
]
