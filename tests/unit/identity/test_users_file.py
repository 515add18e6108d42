"""The file of users: what it may hold, who may read it, and how it is read again."""

import os

import pytest

from tests.unit.identity.stores import ACCOUNT, ALLOW, OTHER, keys_of, run, trust
from whimbrel.identity.assuming import RoleRequest
from whimbrel.identity.users_file import LOOK_S, UsersFile, UsersFileError

SECRET = "a-secret-of-some-length"
FULL = f"""
[[accounts]]
id = "{OTHER}"

[[policies]]
name = "all"
document = '''{ALLOW}'''

[[users]]
name = "ingest"
access_key_id = "INGESTKEY0000000001"
secret = "{SECRET}"
policies = ["all"]
tags = {{ team = "birds" }}

[[users]]
name = "reader"
access_key_id = "READERKEY0000000001"
secret_file = "reader.secret"
policy_file = "reader.json"

[[users]]
name = "reader"
account = "{OTHER}"
access_key_id = "READERKEY0000000002"
secret_env = "READER_SECRET"

[[roles]]
name = "night"
trust = '''{trust(f"arn:aws:iam::{ACCOUNT}:user/ingest")}'''
policy = '''{ALLOW}'''
"""


@pytest.fixture
def make(tmp_path):
    path = tmp_path / "users.toml"
    secret = tmp_path / "reader.secret"
    secret.write_text(f"{SECRET}-2\n")
    secret.chmod(0o600)
    (tmp_path / "reader.json").write_text(ALLOW)

    def make(text, *, mode=0o600):
        path.write_text(text)
        path.chmod(mode)
        environment = {"READER_SECRET": f"{SECRET}-3"}
        return UsersFile(path, account_id=ACCOUNT, environment=environment)

    return make


def test_its_users_sign_and_its_roles_are_assumed(make):
    file = make(FULL)

    async def body(world):
        known, sessions = keys_of(await world.start(), further=(file,))
        found = known.find("INGESTKEY0000000001", session_token=None)
        assert found.secret_access_key == SECRET
        assert found.principal.arn == f"arn:aws:iam::{ACCOUNT}:user/ingest"
        assert found.principal.tags == {"team": "birds"}
        assert len(found.principal.policies) == 1
        assert known.find("READERKEY0000000001", session_token=None).secret_access_key.endswith(
            "-2"
        )
        other = known.find("READERKEY0000000002", session_token=None)
        assert other.principal.account_id == OTHER
        assert other.principal.is_foreign
        request = RoleRequest(role_arn=f"arn:aws:iam::{ACCOUNT}:role/night", session_name="late")
        key = (await sessions.assume_role(request, found.principal, {})).key
        session = known.find(key.access_key_id, session_token=key.token)
        assert session.principal.arn.endswith("assumed-role/night/late")
        assert SECRET not in repr(known.find("INGESTKEY0000000001", session_token=None))

    run(body)


def test_it_is_read_again_when_it_has_changed_and_kept_when_it_is_wrong(make, caplog):
    file = make(FULL)

    async def body(world):
        known, _ = keys_of(await world.start(), further=(file,))
        unique_id = known.find("INGESTKEY0000000001", session_token=None).principal.unique_id
        now_s = 0.0
        for text, is_there in (
            (FULL.replace("INGESTKEY0000000001", "INGESTKEY0000000009"), False),
            (FULL + "\n# the same\n", True),
            ("nonsense", True),
            (FULL + "\n[[users]]\nname = 3\n", True),
            ("", False),
        ):
            file._path.write_text(text)
            os.utime(file._path, (now_s, now_s))
            now_s += LOOK_S
            file.refresh(now_s)
            found = known.find("INGESTKEY0000000001", session_token=None)
            assert (found is not None) == is_there, text
            assert found is None or found.principal.unique_id == unique_id
        file._path.write_text(FULL)
        file.refresh(now_s)
        assert known.find("INGESTKEY0000000001", session_token=None) is None, "too soon to look"

    run(body)
    assert caplog.text.count("users stay as they were") == 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "is_there"),
    [("reader.secret", f"{SECRET}-9", True), ("reader.json", "nonsense", False)],
)
def test_a_changed_file_that_it_names_is_read_again(
    make, tmp_path, caplog, name, content, is_there
):
    file = make(FULL)
    (tmp_path / name).write_text(content)
    file.refresh(LOOK_S)
    assert file.secret("READERKEY0000000001").endswith("-9") == is_there
    assert ("users stay as they were" in caplog.text) != is_there


def test_a_mode_that_was_mended_is_noticed(make, caplog):
    file = make(FULL)
    file._path.write_text(FULL.replace("READERKEY0000000001", "READERKEY0000000009"))
    file._path.chmod(0o644)
    file.refresh(LOOK_S)
    assert "users stay as they were" in caplog.text
    file._path.chmod(0o600)
    file.refresh(2 * LOOK_S)
    assert file.secret("READERKEY0000000009")


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(make, mode):
    with pytest.raises(UsersFileError, match="read by others"):
        make(FULL, mode=mode)


def user(**members):
    given = {"name": '"x"', "access_key_id": '"XKEY000000000000001"', "secret": f'"{SECRET}"'}
    lines = [f"{name} = {value}" for name, value in {**given, **members}.items() if value]
    return "[[users]]\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (f'secret = "{SECRET}" =', "is not TOML. place=`at line 1"),
        (user(name='"a b"'), "$.users[0].name"),
        (user(secret='"short"'), "$.users[0].secret"),
        (user(secret=None), "must give `x` one of"),
        (user(secret_env='"X"'), "must give `x` one of"),
        (user(secret=None, secret_env='"UNSET"'), "not set, for `x`. variable=`UNSET`"),
        (user(secret=None, secret_file='"none"'), "cannot be read"),
        (user(policies='["nothing"]'), "was not found"),
        (user(policy='"{}"'), "holds a mistake"),
        (user(policy='"x"', policy_file='"y"'), "both policy and policy_file"),
        (user(account=f'"{OTHER}"'), f"The account {OTHER} cannot be found"),
        (user(acces_key_id='"x"'), "unknown field"),
        (user(tags='{ team = "a", Team = "b" }'), "Duplicate tag keys"),
        (user() + "\n" + user(), "already exists"),
        (user() + "\n" + user(name='"y"'), "names a key twice"),
    ],
)
def test_mistakes_are_told_without_secrets(make, text, detail):
    with pytest.raises(UsersFileError) as caught:
        make(text)
    assert detail in caught.value.message
    assert SECRET not in str(caught.value) + caught.value.hint


def test_a_file_that_is_not_there_is_told(make, tmp_path):
    with pytest.raises(UsersFileError, match="No such file"):
        UsersFile(tmp_path / "none", account_id=ACCOUNT, environment={})
