"""Policies at random: what must hold of every decision, and that no text but a policy is taken."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.auth.policy.people import OTHER, OWN, Person, request, root, session, user
from whimbrel.auth.policy import PolicyKind, decide, format_policy, parse_policy, template
from whimbrel.auth.policy.document import REMEMBERED_MAX
from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX
from whimbrel.auth.policy.operators import OPERATORS
from whimbrel.auth.policy.template import compile_template
from whimbrel.core.errors import PolicyError

EXAMPLES = settings().max_examples // 2  # each takes several policies

ACTIONS = ["s3vectors:GetVectors", "s3vectors:GetIndex", "s3vectors:PutVectors"]
ARNS = [f"arn:aws:s3vectors:us-east-1:{OWN}:bucket/{name}" for name in ("a", "b", "a/index/i")]
VARIABLE_ARNS = [
    "arn:aws:s3vectors:*:*:bucket/${aws:username}",
    "arn:aws:s3vectors:*:*:bucket/${aws:PrincipalTag/team, 'a'}",
    "arn:aws:s3vectors:*:*:bucket/${aws:TagKeys, 'b'}*",
]
PEOPLE = [user(), user("bob"), user(account=OTHER), session(), root(), root(OTHER)]
KEYS = ["aws:username", "aws:PrincipalTag/team", "aws:TagKeys"]
WORDS = ["a", "b", "A", "a*", "?", "${aws:username}", "${aws:PrincipalTag/team, 'a'}"]

people = st.sampled_from(PEOPLE)
contexts = st.dictionaries(
    st.sampled_from([key.lower() for key in KEYS]),
    st.sampled_from(["a", "b", "*"]) | st.lists(st.sampled_from("abA"), max_size=3).map(tuple),
)
conditions = st.dictionaries(
    st.tuples(
        st.sampled_from(["", "ForAllValues:", "ForAnyValue:"]),
        st.sampled_from(["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"]),
        st.sampled_from(["", "IfExists"]),
    ).map("".join),
    st.dictionaries(st.sampled_from(KEYS), st.lists(st.sampled_from(WORDS), max_size=2), max_size=2),
    max_size=2,
)  # fmt: skip
principals = st.sampled_from(
    ["*", *({"AWS": [name]} for who in PEOPLE for name in (who.arn, who.principal_arn, who.account_id))]
)  # fmt: skip


def some(values, *wider):
    return st.lists(st.sampled_from([*values, *wider]), min_size=1, max_size=2)


@st.composite
def statements(draw, kind=PolicyKind.IDENTITY, effect=None):
    """Draws one statement."""
    effect = effect or draw(st.sampled_from(["Allow", "Deny"]))
    action, resource = (
        draw(st.sampled_from(["", "Not"])) + name for name in ("Action", "Resource")
    )
    found = {
        "Effect": effect,
        action: draw(some(ACTIONS, "*", "s3vectors:Get*", "s3vectors:?et*")),
        resource: draw(some(ARNS, "*", f"{ARNS[0]}*", *VARIABLE_ARNS)),
    }  # fmt: skip
    if draw(st.booleans()):
        found["Condition"] = draw(conditions)
    if kind is PolicyKind.RESOURCE:
        is_negated = effect == "Deny" and draw(st.booleans())
        found["NotPrincipal" if is_negated else "Principal"] = draw(principals)
    return found


def compiled(found, kind=PolicyKind.IDENTITY):
    text = json.dumps({"Version": "2012-10-17", "Statement": found})
    return parse_policy(text, kind, bytes_max=BUCKET_BYTES_MAX)


def lists_of(kind=PolicyKind.IDENTITY):
    return st.lists(statements(kind), min_size=1, max_size=4)


@st.composite
def situations(draw):
    """Draws a request and the statements of all policies that take part."""
    who: Person = draw(people)
    asked = request(
        who, draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(ARNS)), OWN, **draw(contexts)
    )
    parts = {
        "identity": draw(st.lists(lists_of(), max_size=2)),
        "resource": draw(st.none() | lists_of(PolicyKind.RESOURCE)),
        "boundary": draw(st.none() | lists_of()),
        "session": draw(st.lists(lists_of(), max_size=1)),
    }
    return asked, parts


def compiled_parts(parts):
    resource, boundary = parts["resource"], parts["boundary"]
    return {
        "identity": [compiled(one) for one in parts["identity"]],
        "resource": None if resource is None else compiled(resource, PolicyKind.RESOURCE),
        "boundary": None if boundary is None else compiled(boundary),
        "session": [compiled(one) for one in parts["session"]],
    }


def decision(asked, parts):
    return decide(asked, **compiled_parts(parts))


@st.composite
def situations_of_variables(draw):
    """Draws a request, and an identity policy in which a statement on resources with variables decides."""
    effect = draw(st.sampled_from(["Allow", "Deny"]))
    element = draw(st.sampled_from(["Resource", "NotResource"]))
    wide = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    statement = {"Effect": effect, "Action": "*", element: draw(some(VARIABLE_ARNS))}
    found = [wide, statement] if effect == "Deny" else [statement]
    asked = request(user(), ACTIONS[0], draw(st.sampled_from(ARNS)), OWN, **draw(contexts))
    return asked, {"identity": [found], "resource": None, "boundary": None, "session": []}


class Unfiltered:
    """A policy whose statements are all looked at, each to its end."""

    def __init__(self, policy, context):
        self.kind, self.name, self.weight = policy.kind, policy.name, policy.weight
        self.statements, self.context = policy.statements, context

    def candidates(self, action, resource):
        named = [one for one in self.statements if self.names(one, action, resource)]
        return tuple(
            tuple(one for one in named if one.is_allow is is_allow) for is_allow in (False, True)
        )

    def names(self, statement, action, resource):
        actions, resources = statement.actions, statement.resources
        return named(actions, action, {}) and (
            resources is None or named(resources, resource, self.context)
        )


def named(names, text, context):
    """Whether an element holds, by what it is made of alone."""
    patterns = names.patterns
    filled = (template.resolve(context) for template in patterns.templates)
    matchers = [*patterns.matchers, *(compile_template(one) for one in filled if one is not None)]
    is_named = text in patterns.literals or any(matcher(text) for matcher in matchers)
    return is_named is not names.is_negated


def with_more(parts, layer, statement):
    """Returns the parts with one more statement in one policy of a layer, or None where it has none."""
    if not parts[layer]:
        return None
    if layer in {"resource", "boundary"}:
        return parts | {layer: [*parts[layer], statement]}
    first, *rest = parts[layer]
    return parts | {layer: [[*first, statement], *rest]}


@pytest.mark.parametrize("layer", ["identity", "resource", "boundary", "session"])
@pytest.mark.parametrize("effect", ["Deny", "Allow"])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_one_more_deny_allows_no_more_and_one_more_allow_denies_no_more(layer, effect, data):
    asked, parts = data.draw(situations())
    kind = PolicyKind.RESOURCE if layer == "resource" else PolicyKind.IDENTITY
    more = with_more(parts, layer, data.draw(statements(kind, effect)))
    if more is None:
        return
    before, after = decision(asked, parts).is_allowed, decision(asked, more).is_allowed
    assert (after <= before) if effect == "Deny" else (after >= before)


@settings(max_examples=EXAMPLES)
@given(situations() | situations_of_variables())
def test_looking_at_candidates_alone_changes_no_decision(situation):
    asked, parts = situation

    def whole(policy):
        return policy and Unfiltered(policy, asked.context)

    policies = compiled_parts(parts)
    unfiltered = {
        "identity": [whole(one) for one in policies["identity"]],
        "resource": whole(policies["resource"]),
        "boundary": whole(policies["boundary"]),
        "session": [whole(one) for one in policies["session"]],
    }
    expected = decide(asked, **unfiltered)
    assert decide(asked, **policies) == expected
    assert decide(asked, **policies) == expected  # as it is remembered


@settings(max_examples=EXAMPLES)
@given(situations(), st.randoms())
def test_the_order_of_statements_and_policies_does_not_matter(situation, random):
    asked, parts = situation

    def mixed(items):
        return random.sample(items, len(items))

    other = {
        "identity": mixed([mixed(one) for one in parts["identity"]]),
        "resource": parts["resource"] and mixed(parts["resource"]),
        "boundary": parts["boundary"] and mixed(parts["boundary"]),
        "session": mixed([mixed(one) for one in parts["session"]]),
    }
    first, second = decision(asked, parts), decision(asked, other)
    assert (first.is_allowed, first.reason, first.layer) == (
        second.is_allowed,
        second.reason,
        second.layer,
    )


@settings(max_examples=EXAMPLES)
@given(situations(), st.sampled_from([str.upper, str.lower, str.swapcase]))
def test_the_case_of_an_action_does_not_matter(situation, change):
    asked, parts = situation
    other = request(asked.principal, change(asked.action), asked.resource, OWN, **asked.context)
    assert decision(other, parts) == decision(asked, parts)


@given(situations(), st.data())
def test_a_boundary_and_a_session_policy_take_away_only(situation, data):
    asked, parts = situation
    without = parts | {"boundary": None, "session": []}
    if decision(asked, parts).is_allowed:
        assert decision(asked, without).is_allowed


@given(
    statements(effect="Allow"), people, contexts, st.sampled_from(ARNS), st.sampled_from(ACTIONS)
)
def test_a_wildcard_allows_at_least_what_the_literal_does(
    statement, who, context, resource, action
):
    asked = request(who, action, resource, OWN, **context)
    parts = {"identity": [], "resource": None, "boundary": None, "session": []}
    literal = {name: value for name, value in statement.items() if "Action" not in name}
    for wider in ("*", "s3vectors:*", action[:14] + "*", action[:-1] + "?"):
        narrow, wide = ({**literal, "Action": one} for one in (action, wider))
        if decision(asked, parts | {"identity": [[narrow]]}).is_allowed:
            assert decision(asked, parts | {"identity": [[wide]]}).is_allowed


@given(lists_of(PolicyKind.RESOURCE), situations())
def test_a_formatted_policy_is_the_same_policy(found, situation):
    asked, _ = situation
    policy = compiled(found, PolicyKind.RESOURCE)
    again = parse_policy(format_policy(policy), PolicyKind.RESOURCE, bytes_max=BUCKET_BYTES_MAX)
    assert again == policy
    assert decide(asked, identity=[], resource=again) == decide(asked, identity=[], resource=policy)


@settings(max_examples=EXAMPLES)
@given(situations(), st.lists(situations(), min_size=1, max_size=4))
def test_what_was_asked_before_does_not_matter(situation, others):
    asked, parts = situation
    policies = {
        "identity": [compiled(one) for one in parts["identity"]],
        "resource": parts["resource"] and compiled(parts["resource"], PolicyKind.RESOURCE),
    }
    for before, _ in others:
        decide(before, **policies)
    fresh = decision(asked, parts | {"boundary": None, "session": []})
    assert decide(asked, **policies) == fresh


def test_a_policy_remembers_a_bounded_number_of_resources():
    policy = compiled([{"Effect": "Allow", "Action": "*", "Resource": f"{ARNS[0]}*"}])
    for number in range(3 * REMEMBERED_MAX):
        asked = request(user(), f"s3vectors:A{number}", f"{ARNS[number % 2]}/index/{number}")
        assert decide(asked, identity=[policy], resource=None).is_allowed == (number % 2 == 0)
        assert len(policy._candidates) <= REMEMBERED_MAX
        assert len(policy._of_actions) <= REMEMBERED_MAX


# --- matching ------------------------------------------------------------------------------------


def glob(pattern, text):
    """Matches by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and glob(pattern[1:], text[1:])


def glob_by_steps(pattern, text):
    """Matches by all that each character of a pattern can end at."""
    ends = {0}
    for char in pattern:
        if char == "*":
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if end < len(text) and char in ("?", text[end])}
    return len(text) in ends


def compiled_pattern(pattern, *, is_filled=False):
    parsed = template.parse_template(pattern, has_wildcards=True, has_variables=True)
    return template.compile_template(parsed, is_filled=is_filled)


def match(pattern, text):
    return bool(compiled_pattern(pattern)(text))


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8), st.sampled_from([1, 40]))
def test_patterns_match_what_trying_everything_matches(pattern, text, repeat):
    # Long texts are looked at in another way than short ones.
    pattern, long = pattern * (2 if repeat > 1 else 1), text * repeat
    assert match(pattern, long) == glob_by_steps(pattern, long)
    if repeat == 1:
        assert glob_by_steps(pattern, text) == glob(pattern, text)


def test_every_short_pattern_matches_what_trying_everything_matches():
    def words(alphabet, size_max):
        return [
            "".join(chars)
            for size in range(size_max + 1)
            for chars in itertools.product(alphabet, repeat=size)
        ]

    for pattern in words("ab*?", 4):
        matches, filled = compiled_pattern(pattern), compiled_pattern(pattern, is_filled=True)
        for text in words("ab", 4):
            expected = glob(pattern, text)
            assert bool(matches(text)) == bool(filled(text)) == expected, (pattern, text)


@given(st.text("ab*?", max_size=8))
def test_escaped_wildcards_match_themselves(text):
    escaped = "".join("${" + char + "}" if char in "*?" else char for char in text)
    assert match(escaped, text)
    assert not match(escaped, text + "a")


@pytest.mark.parametrize("mark", ["a", "?", "a?", "ab", "?a?"])
def test_hostile_patterns_do_not_go_back(mark):
    # Work that is not in proportion to both lengths would not end with these.
    assert not match(f"*{mark}" * 5_000 + "*?b", "a" * 20_000)
    assert not match(f"*{mark}" * 5_000 + "*b", "a" * 20_000)
    assert match(f"*{mark}" * 5_000 + "*", "aab" * 20_000)


# --- fuzz ----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["*", "Allow", "Deny", "s3vectors:*", ARNS[0], "${", "${aws:x}", "arn:", OWN]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["AWS", "Service", "StringLike", "aws:x", "x", "Bool", "ArnLike", "Null", *OPERATORS])
        | st.text(max_size=4),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip
elements = [
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
]  # fmt: skip
almost_statements = st.dictionaries(st.sampled_from(elements), json_values)
almost_policies = st.fixed_dictionaries(
    {"Statement": almost_statements | st.lists(almost_statements, max_size=3)},
    optional={"Version": st.sampled_from(["2012-10-17", "2008-10-17"]) | json_values, "Id": json_values},
)  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(
    st.text() | json_values.map(json.dumps) | almost_policies.map(json.dumps),
    st.sampled_from(PolicyKind),
)
def test_what_is_no_policy_is_refused_and_nothing_else_happens(text, kind):
    try:
        policy = parse_policy(text, kind, bytes_max=BUCKET_BYTES_MAX)
    except PolicyError:
        return
    assert parse_policy(format_policy(policy), kind, bytes_max=BUCKET_BYTES_MAX * 4) == policy


@given(statements(PolicyKind.RESOURCE), st.sampled_from(elements), json_values)
def test_one_element_wrong_is_refused_or_taken(statement, element, value):
    text = json.dumps({"Version": "2012-10-17", "Statement": statement | {element: value}})
    try:
        policy = parse_policy(text, PolicyKind.RESOURCE, bytes_max=BUCKET_BYTES_MAX)
    except PolicyError:
        return
    decide(request(user()), identity=[], resource=policy)


@given(st.sampled_from(list(OPERATORS)), st.text(max_size=12), st.text(max_size=70))
def test_operators_take_any_value(operator, operand, value):
    condition = {operator: {"aws:x": operand}}
    found = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    try:
        policy = compiled([found])
    except PolicyError:
        return
    asked = request(user(), **{"aws:x": value})
    assert decide(asked, identity=[policy], resource=None).is_allowed in {True, False}
