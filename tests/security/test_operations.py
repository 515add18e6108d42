"""Every operation of the endpoint, asked by those who may not: generated from the route table.

An operation without a sample fails here, and so does one that lets somebody in without any of the actions it needs.
"""

import pytest

from tests.security.fortress import (
    ACCOUNT,
    BUCKET,
    BUCKET_ARN,
    INDEX_ARN,
    OTHER_ARN,
    ROOT,
    Fortress,
    foreigner,
    statement,
    user,
)
from tests.security.samples import INVOCATION_ARN, MODEL_ARN, SAMPLES, Sample
from whimbrel.wire.access import RULES, Need
from whimbrel.wire.access.rule import Target
from whimbrel.wire.protocols import list_routes

# Those of IAM, STS and KMS are asked in modules of their own.
ROUTES = {
    route.name: route
    for route in list_routes()
    if not route.action.startswith(("iam:", "kms:", "sts:"))
    and RULES[route.action].targets != (Target.OWNER,)
}
DENIED = (403, "AccessDeniedException")
# What the root user of the account may do besides, whatever a policy says.
KEPT = {"PutVectorBucketPolicy", "GetVectorBucketPolicy", "DeleteVectorBucketPolicy"}


def ask(fortress: Fortress, principal, name: str):
    sample: Sample = SAMPLES[name]
    return fortress.ask(principal, sample.path, sample.members, method=sample.method)


def needs_of(fortress: Fortress, name: str) -> list[Need]:
    """Returns what a sample needs, each once."""
    sample, action = SAMPLES[name], ROUTES[name].action
    if sample.model:
        return [Need(action, MODEL_ARN)]
    if name == "GetAsyncInvoke":
        return [Need(action, INVOCATION_ARN)]
    members = sample.input or sample.members or {}
    return list(dict.fromkeys(fortress.needs.read(action, members)))


def allowing(needs: list[Need]):
    return user(*(statement(need.action, need.resource) for need in needs))


def test_there_is_a_sample_of_every_operation():
    assert SAMPLES.keys() == ROUTES.keys()


def test_every_rule_is_of_an_operation():
    actions = {route.action for route in list_routes()}
    covered = {also.action for rule in RULES.values() for also in rule.also}
    assert RULES.keys() - actions == {
        "whimbrel:Explain",
        "sts:TagSession",
        "kms:TagResource",
        "iam:TagPolicy",
    }
    assert covered <= RULES.keys()


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_a_user_without_permissions_is_refused_and_learns_nothing(guarded, empty, name):
    reply = ask(guarded, user(), name)
    assert (reply.status, reply.code) == DENIED
    need = needs_of(guarded, name)[0]
    assert reply.message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: {need.action} on resource: "
        f"{need.resource} because no identity-based policy allows the {need.action} action"
    )
    assert ask(empty, user(), name).body == reply.body


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_a_user_of_another_account_is_refused_and_learns_nothing(guarded, empty, name):
    reply = ask(guarded, foreigner(), name)
    assert (reply.status, reply.code) == DENIED
    assert reply.message.endswith(
        f"because no resource-based policy allows the {ROUTES[name].action} action"
    )
    assert ask(empty, foreigner(), name).body == reply.body


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_a_user_of_another_bucket_is_refused(guarded, name):
    everything_there = user(statement("*", [OTHER_ARN, f"{OTHER_ARN}/*"]))
    assert ask(guarded, everything_there, name).status == 403


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_every_action_that_is_needed_is_asked_for_and_no_other(fortress, name):
    needs = needs_of(fortress, name)
    for missing in needs:
        rest = [need for need in needs if need != missing]
        reply = ask(fortress, allowing(rest), name)
        assert (reply.status, reply.code) == DENIED
        assert f"perform: {missing.action} on resource: {missing.resource} " in reply.message
    assert ask(fortress, allowing(needs), name).status != 403


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_an_explicit_deny_wins(guarded, name):
    needs = needs_of(guarded, name)
    for denied in needs:
        principal = user(statement("*"), statement(denied.action, denied.resource, effect="Deny"))
        reply = ask(guarded, principal, name)
        assert (reply.status, reply.code) == DENIED
        assert reply.message.endswith("with an explicit deny in an identity-based policy")


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_the_root_user_may_do_everything_but_what_a_bucket_denies(fortress, name):
    everything = [BUCKET_ARN, f"{BUCKET_ARN}/*"]
    fortress.set_policy(statement("s3vectors:*", everything, effect="Deny", Principal="*"))
    is_of_bucket = any(
        need.place is not None and need.place.bucket_name == BUCKET
        for need in needs_of(fortress, name)
    )
    reply = ask(fortress, ROOT, name)
    assert (reply.status == 403) == (is_of_bucket and name not in KEPT)


def test_what_a_foreign_account_is_granted_needs_both_sides(fortress):
    grant = statement("s3vectors:GetIndex", INDEX_ARN, Principal={"AWS": "210987654321"})
    fortress.set_policy(grant)
    assert ask(fortress, foreigner(), "GetIndex").status == 200
    assert ask(fortress, foreigner(), "DeleteIndex").status == 403
    without_own = foreigner(statement("s3vectors:GetVectors"))
    assert ask(fortress, without_own, "GetIndex").status == 403
    assert ask(fortress, user(), "GetIndex").status == 403
