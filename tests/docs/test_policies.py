"""The page about policies: its example is a policy, its numbers and operators are those of the code."""

import re

from tests.docs.pages import entries
from tests.tidy.source_tree import ROOT
from whimbrel.auth.policy import PolicyKind, limits, parse_policy
from whimbrel.auth.policy.operators import OPERATORS

PAGE = (ROOT / "docs/reference/policies.md").read_text()


def test_every_operator_is_documented():
    assert {*OPERATORS, "Null"} - entries("docs/reference/") == set()


def test_every_example_is_a_policy():
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    for example in examples:
        parse_policy(example, PolicyKind.IDENTITY, bytes_max=limits.MANAGED_BYTES_MAX)


def test_every_limit_is_documented():
    found = [value for name, value in vars(limits).items() if name.endswith("_BYTES_MAX")]
    assert len(found) >= 6
    assert [value for value in found if f"{value:,}" not in PAGE] == []
