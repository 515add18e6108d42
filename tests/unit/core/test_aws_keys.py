"""Keys for a service of AWS: whole or not at all, from variables or from files."""

import pytest

from whimbrel.core.aws_keys import find_aws_keys, name_variables
from whimbrel.core.settings import SettingError

ACCESS_KEY_ENV, SECRET_KEY_ENV, SESSION_TOKEN_ENV = name_variables("KMS")


def find(environment):
    return find_aws_keys(environment, name_variables("KMS"), name="the KMS")


def test_all_of_them_are_found():
    found = find(
        {
            ACCESS_KEY_ENV: "a",
            SECRET_KEY_ENV: "b",
            SESSION_TOKEN_ENV: "c",
            "WHIMBREL_ACCESS_KEY_ID": "own",
        }
    )
    assert (found.access_key_id, found.secret_access_key, found.session_token) == ("a", "b", "c")
    assert found.server_key_id == "own"


def test_none_is_fine():
    assert find({}).access_key_id == ""


@pytest.mark.parametrize(
    "environment", [{ACCESS_KEY_ENV: "a"}, {SECRET_KEY_ENV: "b"}, {SESSION_TOKEN_ENV: "c"}]
)
def test_half_of_them_stop_the_server(environment):
    with pytest.raises(SettingError, match="incomplete"):
        find(environment)


def test_they_may_stand_in_files(tmp_path):
    path = tmp_path / "secret"
    path.write_text("b\n")
    found = find({ACCESS_KEY_ENV: "a", f"{SECRET_KEY_ENV}_FILE": str(path)})
    assert found.secret_access_key == "b"


@pytest.mark.parametrize(
    ("key_id", "is_of_server"), [("own", True), ("WHIMABCDEFGHIJKLMNOP", True), ("AKIA", False)]
)
def test_keys_of_servers_are_known(key_id, is_of_server):
    assert find({"WHIMBREL_ACCESS_KEY_ID": "own"}).is_of_server(key_id) == is_of_server
