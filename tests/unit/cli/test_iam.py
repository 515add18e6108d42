"""`whimbrel iam`, over a store: what it refuses in words, and that both ways of asking answer with the same types."""

import json

import pytest

from tests.unit.identity.stores import ACCOUNT, policy, role
from whimbrel.cli import iam as commands
from whimbrel.cli.iam import TASKS
from whimbrel.cli.iam_call import read_answer
from whimbrel.cli.report import ExitCode
from whimbrel.identity.changes import count_uses
from whimbrel.identity.state import IdentityState
from whimbrel.wire.iam import shown
from whimbrel.wire.iam.model import INPUTS
from whimbrel.wire.query.xml import encode_answer

OTHER = "210987654321"
POLICY = f"arn:aws:iam::{ACCOUNT}:policy/text"


@pytest.fixture
def iam(whimbrel, store):
    """Runs `whimbrel iam ARGUMENTS...` on a store."""
    return lambda *arguments: whimbrel("iam", *arguments, "--store", store)


def test_an_account_is_made_and_deleted(iam):
    made = json.loads(iam("account", "create", "partner", "--json").out)
    number = made["Account"]["AccountId"]
    assert number in iam("account", "list").out
    assert iam("account", "delete", number).code == ExitCode.OK
    result = iam("account", "delete", number)
    assert result.code == ExitCode.NOT_FOUND
    assert f"The account {number} cannot be found" in result.err


def test_an_account_that_is_not_there_is_told(iam):
    for number, code, text in (
        ("99", ExitCode.USAGE, "AccountId"),
        (OTHER, ExitCode.NOT_FOUND, f"The account {OTHER} cannot be found"),
    ):
        for words in (("user", "create", "ada"), ("user", "list")):
            result = iam(*words, "--in-account", number)
            assert (result.code, text in result.err) == (code, True), result
    assert json.loads(iam("account", "list", "--json").out) == {"Accounts": []}


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in TASKS for name in TASKS[group][1]]
)
def test_every_command_asks_for_what_it_says(iam, monkeypatch, tmp_path, group, name):
    file = tmp_path / "policy.json"
    file.write_text("{}")
    task, asked = TASKS[group][1][name], []

    def ask(action, parameters):
        asked.append((action, parameters))
        return {"Policy": {"DefaultVersionId": "v1"}} if action == "GetPolicy" else {}

    monkeypatch.setattr(commands, "call_store", lambda _: ask)
    words = [
        file if member.startswith("@") else POLICY if member == "PolicyArn" else "text"
        for member in task.arguments.values()
    ]
    words += ["--trust", file] if "trust" in task.options else []
    words += ["--role", "night"] if "{}" in task.action else []
    result = iam(group, name, *words)
    assert result.code == ExitCode.OK
    assert not result.err or result.err.startswith("there are no ")
    action, parameters = asked[0]
    assert [other for other, _ in asked[1:]] == ["GetPolicyVersion"] * (action == "GetPolicy")
    assert action == task.action.format("Role")
    members = INPUTS[action].members
    needed = {member for member, each in members.items() if each.is_required} - {"Tags"}
    assert needed <= parameters.keys() <= {*members, "MaxItems"}


@pytest.mark.parametrize("pairs", [("a=1", "a=2"), ("a=1", "A=2"), ("aws:a=1",), ("a",)])
def test_tags_that_cannot_be_are_refused(iam, pairs):
    given = [word for pair in pairs for word in ("--tag", pair)]
    assert iam("user", "create", "ada", *given).code == ExitCode.USAGE
    assert json.loads(iam("user", "list", "--json").out) == {"Users": []}


def test_answers_have_the_same_types_from_a_server_as_from_a_store():
    state = IdentityState()
    managed, uses = policy("1234"), count_uses(state, ACCOUNT)
    results = [
        {"Role": shown.show_role(state, ACCOUNT, role("true", tags={"n": "12", "b": "true"}))},
        {"Policy": shown.show_policy(ACCOUNT, managed, uses)},
        {"PolicyVersion": shown.show_version(managed, is_whole=True)},
        {"IsTruncated": False, "Policies": [shown.show_policy(ACCOUNT, managed, uses)]},
    ]
    for result in results:
        text = encode_answer("GetIt", result, namespace="n", request_id="r")
        assert read_answer(text) == result
