"""The rules of AWS's "Policy evaluation logic", "Permissions boundaries" and "NotPrincipal", one case each."""

import pytest

from tests.unit.auth.policy.people import (
    BUCKET,
    GET,
    INDEX,
    OTHER,
    OWN,
    ROLE,
    of_bucket,
    own,
    policy_of,
    request,
    root,
    service,
    session,
    trust,
    user,
)
from whimbrel.auth.policy import Layer, PolicyKind, Reason, decide, explain

ANA = user().arn
SESSION = session().arn
ALL = policy_of(own(), name="all")
NONE = policy_of(own(action="s3vectors:ListVectorBuckets"), name="list")
DENY = policy_of(own("Deny"), name="deny")

IDENTITY, RESOURCE, BOUNDARY, LIMIT = Layer.IDENTITY, Layer.RESOURCE, Layer.BOUNDARY, Layer.SESSION
ALLOWED, DENIED, NO_ALLOW = Reason.ALLOWED, Reason.EXPLICIT_DENY, Reason.NO_ALLOW
NO_BOUNDARY, NO_SESSION = Reason.NO_BOUNDARY_ALLOW, Reason.NO_SESSION_ALLOW
CROSS = Reason.CROSS_ACCOUNT

# what it shows, who asks, identity policies, the bucket's, boundary, session policies, reason, layer
CASES = [
    # --- within one account
    ("nothing says anything", user(), [], None, None, [], NO_ALLOW, IDENTITY),
    ("an identity policy is enough", user(), [ALL], None, None, [], ALLOWED, IDENTITY),
    ("one of several", user(), [NONE, ALL], None, None, [], ALLOWED, IDENTITY),
    ("the bucket's policy is enough", user(), [], of_bucket(ANA), None, [], ALLOWED, RESOURCE),
    ("another user", user("bob"), [], of_bucket(ANA), None, [], NO_ALLOW, IDENTITY),
    ("names are told apart by case", user("Ana"), [], of_bucket(ANA), None, [], NO_ALLOW, IDENTITY),
    ("everybody", user(), [], of_bucket("*"), None, [], ALLOWED, RESOURCE),
    ("the account is but trusted", user(), [], of_bucket(OWN), None, [], NO_ALLOW, IDENTITY),
    ("and may be so", user(), [ALL], of_bucket(OWN), None, [], ALLOWED, IDENTITY),
    ("deny of an identity", user(), [ALL, DENY], of_bucket(ANA), None, [], DENIED, IDENTITY),
    ("deny of the bucket", user(), [ALL], of_bucket(ANA, "Deny"), None, [], DENIED, RESOURCE),
    ("deny of an account", user(), [ALL], of_bucket(OWN, "Deny"), None, [], DENIED, RESOURCE),
    ("deny of a role", session(), [ALL], of_bucket(ROLE, "Deny"), None, [], DENIED, RESOURCE),
    ("deny of everybody", user(), [ALL], of_bucket("*", "Deny"), None, [], DENIED, RESOURCE),
    # --- permissions boundary
    ("a boundary grants nothing", user(), [], None, ALL, [], NO_ALLOW, IDENTITY),
    ("both allow", user(), [ALL], None, ALL, [], ALLOWED, IDENTITY),
    ("a boundary limits", user(), [ALL], None, NONE, [], NO_BOUNDARY, BOUNDARY),
    ("a boundary denies", user(), [ALL], of_bucket(ANA), DENY, [], DENIED, BOUNDARY),
    ("not a user named directly", user(), [], of_bucket(ANA), NONE, [], ALLOWED, RESOURCE),
    ("but a role named", session(), [], of_bucket(ROLE), NONE, [], NO_BOUNDARY, BOUNDARY),
    ("not a session named", session(), [], of_bucket(SESSION), NONE, [], ALLOWED, RESOURCE),
    ("not everybody", session(), [], of_bucket("*"), NONE, [NONE], ALLOWED, RESOURCE),
    # --- roles and session policies
    ("a role named", session(), [], of_bucket(ROLE), None, [], ALLOWED, RESOURCE),
    ("another session", session("s2"), [], of_bucket(SESSION), None, [], NO_ALLOW, IDENTITY),
    ("a session policy grants nothing", session(), [], None, None, [ALL], NO_ALLOW, IDENTITY),
    ("a session policy limits", session(), [ALL], None, None, [NONE], NO_SESSION, LIMIT),
    ("one of several session policies", session(), [ALL], None, None, [NONE, ALL], ALLOWED, IDENTITY),
    ("a session policy denies", session(), [ALL], of_bucket(SESSION), None, [ALL, DENY], DENIED, LIMIT),
    ("a role named, limited", session(), [], of_bucket(ROLE), None, [NONE], NO_SESSION, LIMIT),
    ("a session named, not limited", session(), [], of_bucket(SESSION), None, [NONE], ALLOWED, RESOURCE),
    ("a user's session, limited", user(), [], of_bucket(ANA), None, [NONE], NO_SESSION, LIMIT),
    # --- across accounts
    ("only theirs", user(account=OTHER), [ALL], None, None, [], CROSS, RESOURCE),
    ("only ours", user(account=OTHER), [], of_bucket(OTHER), None, [], NO_ALLOW, IDENTITY),
    ("both, by account", user(account=OTHER), [ALL], of_bucket(OTHER), None, [], ALLOWED, RESOURCE),
    (
        "both, by name",
        user(account=OTHER),
        [ALL],
        of_bucket(user(account=OTHER).arn),
        None,
        [],
        ALLOWED,
        RESOURCE,
    ),
    ("a name is not enough", user(account=OTHER), [], of_bucket(user(account=OTHER).arn), None, [], NO_ALLOW, IDENTITY),
    ("nor a role's", session(account=OTHER), [], of_bucket(session(account=OTHER).principal_arn), None, [], NO_ALLOW, IDENTITY),
    ("nor a session's", session(account=OTHER), [], of_bucket(session(account=OTHER).arn), None, [], NO_ALLOW, IDENTITY),
    ("everybody is not enough", user(account=OTHER), [], of_bucket("*"), None, [], NO_ALLOW, IDENTITY),
    ("their boundary", user(account=OTHER), [ALL], of_bucket("*"), NONE, [], NO_BOUNDARY, BOUNDARY),
    ("their session", session(account=OTHER), [ALL], of_bucket("*"), None, [NONE], NO_SESSION, LIMIT),
    ("their root needs ours", root(OTHER), [], None, None, [], CROSS, RESOURCE),
    ("their root has it", root(OTHER), [], of_bucket(OTHER), None, [], ALLOWED, RESOURCE),
    ("a user of ours is not theirs", user(account=OTHER), [ALL], of_bucket(ANA), None, [], CROSS, RESOURCE),
    # --- root and services
    ("root needs no policy", root(), [], None, None, [], Reason.ROOT, None),
    ("root can be denied", root(), [], of_bucket(OWN, "Deny"), None, [], DENIED, RESOURCE),
    ("denying a user leaves root", root(), [], of_bucket(ANA, "Deny"), None, [], Reason.ROOT, None),
    ("a service without a policy", service(), [], None, None, [], NO_ALLOW, RESOURCE),
    ("everybody is a service, too", service(), [], of_bucket("*"), None, [], ALLOWED, RESOURCE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("who", "identity", "resource", "boundary", "limits", "reason", "layer"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_the_documented_rules(who, identity, resource, boundary, limits, reason, layer):
    policies = {"identity": identity, "resource": resource, "boundary": boundary, "session": limits}
    asked = request(who)
    found = decide(asked, **policies)
    assert (found.reason, found.layer) == (reason, layer)
    assert found.is_allowed == (reason in {ALLOWED, Reason.ROOT})
    # What explains it names the very statement that decided.
    findings = explain(asked, **policies)
    if found.statement:
        decisive = [
            one
            for one in findings
            if one.matches and (one.layer, one.policy, one.statement) == (layer, found.policy, found.statement)
        ]  # fmt: skip
        assert next(one.effect for one in decisive) == ("Allow" if found.is_allowed else "Deny")
    else:
        assert not any(one.matches and one.effect == "Deny" for one in findings)


def test_there_is_one_case_of_a_name():
    assert len({case[0] for case in CASES}) == len(CASES)


def test_root_can_always_mend_a_policy():
    everybody = of_bucket("*", "Deny", action="*")
    for verb in ("Put", "Get", "Delete"):
        asked = request(root(), f"s3vectors:{verb}VectorBucketPolicy", BUCKET)
        assert decide(asked, identity=[], resource=everybody).reason is Reason.ROOT
        for who in (user(), root(OTHER)):
            asked = request(who, f"s3vectors:{verb}VectorBucketPolicy", BUCKET)
            assert decide(asked, identity=[ALL], resource=everybody).reason is DENIED
    asked = request(root(), "s3vectors:DeleteVectorBucket", BUCKET)
    assert decide(asked, identity=[], resource=everybody).reason is DENIED


def test_a_service_is_named_by_its_name():
    named = policy_of(
        own(Principal={"Service": "indexing.s3vectors.amazonaws.com"}), kind=PolicyKind.RESOURCE
    )
    assert decide(request(service()), identity=[], resource=named).is_allowed
    assert not decide(
        request(service("logs.amazonaws.com")), identity=[], resource=named
    ).is_allowed
    assert not decide(request(user()), identity=[], resource=named).is_allowed


@pytest.mark.parametrize(
    ("who", "lesser", "greater"),
    [(user(), OWN, ANA), (session(), ROLE, SESSION), (session(), OWN, ROLE)],
)
def test_the_most_direct_name_counts(who, lesser, greater):
    limits = [NONE] if greater == SESSION else []
    for names in ([lesser, greater], [greater, lesser]):
        statements = [own(Sid=f"s{n}", Principal={"AWS": name}) for n, name in enumerate(names)]
        policy = policy_of(*statements, kind=PolicyKind.RESOURCE)
        found = decide(request(who), identity=[], resource=policy, session=limits)
        assert (found.is_allowed, found.statement) == (True, f"s{names.index(greater)}")
        both = of_bucket(names)
        assert decide(request(who), identity=[], resource=both, session=limits).is_allowed


# --- trust policies ------------------------------------------------------------------------------

ASSUME = policy_of(own(action="sts:AssumeRole"))


@pytest.mark.parametrize(
    ("who", "identity", "principal", "reason", "layer"),
    [
        (user(), [], {"AWS": ANA}, ALLOWED, RESOURCE),
        (user(), [], {"AWS": OWN}, NO_ALLOW, IDENTITY),
        (user(), [ASSUME], {"AWS": OWN}, ALLOWED, RESOURCE),
        (user(), [ASSUME], {"AWS": OTHER}, NO_ALLOW, RESOURCE),  # the trust policy must allow it
        (session(), [], {"AWS": ROLE}, ALLOWED, RESOURCE),
        (user(account=OTHER), [], {"AWS": OTHER}, NO_ALLOW, IDENTITY),
        (user(account=OTHER), [ASSUME], {"AWS": OTHER}, ALLOWED, RESOURCE),
        (user(account=OTHER), [ASSUME], {"AWS": OWN}, CROSS, RESOURCE),
        (root(), [], {"AWS": OTHER}, NO_ALLOW, RESOURCE),
        (root(), [], {"AWS": OWN}, ALLOWED, RESOURCE),
        (service("lambda.amazonaws.com"), [], {"Service": "lambda.amazonaws.com"}, ALLOWED, RESOURCE),
    ],
)  # fmt: skip
def test_trust_policies_must_allow_it(who, identity, principal, reason, layer):
    asked = request(who, "sts:AssumeRole", ROLE)
    found = decide(asked, identity=identity, resource=trust(principal))
    assert (found.reason, found.layer) == (reason, layer)


# --- NotPrincipal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("excepted", "who", "is_denied"),
    [
        ([ANA, OWN], user(), False),
        ([ANA], user(), True),  # AWS looks for the account as well
        ([OWN], user(), True),
        ([f"arn:aws:iam::{OWN}:root"], root(), False),
        ([ANA, OWN], user("bob"), True),
        ([ANA, OWN], user(account=OTHER), True),
        ([SESSION, ROLE, OWN], session(), False),
        ([ROLE, OWN], session(), True),
        ([SESSION, OWN], session(), True),
        ([ANA, OWN], service(), True),
    ],
)
def test_not_principal_denies_all_who_are_not_wholly_named(excepted, who, is_denied):
    statement = own("Deny", NotPrincipal={"AWS": excepted})
    policy = policy_of(statement, kind=PolicyKind.RESOURCE)
    found = decide(request(who), identity=[ALL], resource=policy)
    assert (found.reason is DENIED) == is_denied


def test_not_principal_denies_whoever_has_a_boundary():
    policy = policy_of(own("Deny", NotPrincipal={"AWS": [ANA, OWN]}), kind=PolicyKind.RESOURCE)
    assert not decide(request(user()), identity=[ALL], resource=policy, boundary=ALL).is_allowed


# --- actions and resources -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "matches"),
    [
        ({"Action": GET}, True),
        ({"Action": "S3VECTORS:getvectors"}, True),
        ({"Action": "s3vectors:Get*"}, True),
        ({"Action": "s3vectors:GetVector?"}, True),
        ({"Action": "s3vectors:GetVector"}, False),
        ({"Action": "s3vectors:?GetVectors"}, False),
        ({"Action": "*"}, True),
        ({"Action": "*:*"}, True),
        ({"Action": "s3:*"}, False),
        ({"Action": ["s3vectors:PutVectors", GET]}, True),
        ({"NotAction": "s3vectors:Put*"}, True),
        ({"NotAction": ["s3vectors:Put*", "s3vectors:get*"]}, False),
        ({"Resource": INDEX}, True),
        ({"Resource": BUCKET}, False),
        ({"Resource": f"{BUCKET}/index/Wings"}, False),
        ({"Resource": f"{BUCKET}*"}, True),
        ({"Resource": f"{BUCKET}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/*/wings"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/birds/index/w?ngs"}, True),
        ({"Resource": "arn:aws:s3vectors:us-east-1:*"}, True),
        ({"Resource": "arn:aws:s3vectors:us-east-2:*"}, False),
        ({"Resource": "arn:aws-cn:s3vectors:*:*:bucket/*"}, False),
        ({"NotResource": INDEX}, False),
        ({"NotResource": BUCKET}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/Team}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${AWS:principaltag/team}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:username}/*"}, False),
        ({"NotResource": "arn:aws:s3vectors:*:*:bucket/${aws:username}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:username, 'birds'}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/team, 'x'}/*"}, True),
        ({"NotResource": "arn:aws:s3vectors:*:*:bucket/${aws:username, 'birds'}/*"}, False),
        ({"NotResource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/cat, 'birds'}/*"}, True),
        ({"NotResource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/many, 'birds'}/*"}, True),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/star}/*"}, False),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/many}/*"}, False),
        ({"Resource": "arn:aws:s3vectors:*:*:bucket/birds/index/${*}"}, False),
    ],
)
def test_actions_and_resources(element, matches):
    statement = own()
    for name in element:
        statement.pop(name.removeprefix("Not"))
    context = {
        "aws:principaltag/team": "birds",
        "aws:principaltag/cat": "cats",
        "aws:principaltag/star": "*",
        "aws:principaltag/many": ("birds", "fish"),
    }
    asked = request(user(), **context)
    allowed = decide(asked, identity=[policy_of(statement | element)], resource=None)
    assert allowed.is_allowed == matches
    denied = decide(
        asked, identity=[ALL, policy_of(statement | element | {"Effect": "Deny"})], resource=None
    )
    assert denied.is_allowed != matches


def test_a_request_says_who_owns_its_resource():
    foreign = {"StringNotEquals": {"aws:ResourceAccount": OWN}}
    policies = [ALL, policy_of(own("Deny", Condition=foreign))]
    for account, is_allowed in ((OWN, True), (OTHER, False), ("", False)):
        asked = request(user(account=account), account=account, **{"aws:username": "ana"})
        assert decide(asked, identity=policies, resource=None).is_allowed == is_allowed
        assert asked.context.get("aws:resourceaccount", "") == account
        assert asked.context["aws:username"] == "ana"
    claimed = request(user(), account=OTHER, **{"aws:resourceaccount": OWN})
    assert not decide(claimed, identity=policies, resource=None).is_allowed


def test_an_old_version_takes_variables_literally():
    statement = own(resource="arn:aws:s3vectors:*:*:bucket/${aws:username}")
    policy = policy_of(statement, version="2008-10-17")
    named = "arn:aws:s3vectors:us-east-1:111122223333:bucket/"
    context = {"aws:username": "ana"}
    for resource, is_allowed in ((f"{named}ana", False), (named + "${aws:username}", True)):
        asked = request(user(), resource=resource, **context)
        assert decide(asked, identity=[policy], resource=None).is_allowed == is_allowed


# --- what a decision says ------------------------------------------------------------------------


def test_refusals_are_worded_as_by_aws():
    def refusal(**policies):
        return decide(request(user()), **{"identity": [], "resource": None} | policies).refusal(GET)

    assert refusal() == f"because no identity-based policy allows the {GET} action"
    assert refusal(identity=[DENY]) == "with an explicit deny in an identity-based policy"
    assert (
        refusal(resource=of_bucket("*", "Deny"))
        == "with an explicit deny in a resource-based policy"
    )
    limited = {"identity": [ALL], "boundary": NONE}
    assert refusal(**limited) == f"because no permissions boundary allows the {GET} action"


def test_the_statement_that_decided_is_named():
    policy = policy_of(
        own(action="s3vectors:Put*"), own(Sid="Reads", action="s3vectors:Get*"), own()
    )
    found = decide(request(user()), identity=[policy], resource=None)
    assert (found.policy, found.statement) == ("p", "Reads")
    found = decide(request(user(), "s3vectors:ListIndexes"), identity=[policy], resource=None)
    assert (found.policy, found.statement) == ("p", "Statement[2]")


def test_each_statement_says_why_it_does_not_match():
    condition = {"StringEquals": {"aws:PrincipalTag/team": "fish"}}
    policy = policy_of(
        own(action="s3vectors:Put*"), own(resource=BUCKET), own(Condition=condition), own()
    )
    asked = request(user(), **{"aws:principaltag/team": "birds"})
    findings = explain(asked, identity=[policy], resource=of_bucket(OTHER))
    assert [(one.statement, one.matches, one.why) for one in findings] == [
        ("Statement[0]", False, "it does not name this action"),
        ("Statement[1]", False, "it does not name this resource"),
        (
            "Statement[2]",
            False,
            "StringEquals aws:PrincipalTag/team does not hold: the request has birds",
        ),
        ("Statement[3]", True, ""),
        ("Statement[0]", False, "it does not name this principal"),
    ]
