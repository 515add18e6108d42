"""The benchmark of decisions: each shape is decided by its last statement, so that all are looked at."""

import pytest

from bench.policy import ACCOUNT, CONTEXT, RESOURCE, STATEMENT_COUNT, Asker, make_policy, shapes
from whimbrel.auth.policy import AccessRequest, decide


@pytest.mark.parametrize("name", shapes())
def test_the_last_statement_decides(name):
    asked = AccessRequest("s3vectors:GetVectors", RESOURCE, Asker(), ACCOUNT, CONTEXT)
    policy = make_policy(shapes()[name])
    found = decide(asked, identity=[policy], resource=None)
    assert len(policy.statements) == STATEMENT_COUNT
    assert (found.is_allowed, found.statement) == (True, f"Statement[{STATEMENT_COUNT - 1}]")
