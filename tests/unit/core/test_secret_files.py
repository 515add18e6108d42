"""Secrets come from the files that variables name, and from nowhere else."""

import logging

import pytest

from whimbrel.core.secret_files import (
    FILE_BYTES_MAX,
    NAMES,
    SecretFileError,
    secret_variables,
    with_secret_files,
    with_servers_secrets,
)

SECRET = "WHIMBREL_SECRET_ACCESS_KEY"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.write_text("s3cr3t-s3cr3t-s3cr3t\n", encoding="ascii")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_stands_for_its_variable(file, name):
    environment = {"PATH": "/bin", f"{name}_FILE": str(file)}
    assert with_secret_files(environment) == {"PATH": "/bin", name: "s3cr3t-s3cr3t-s3cr3t"}
    assert name not in environment


def test_other_variables_are_left_alone(file):
    environment = {"OTHER_FILE": str(file), SECRET: "plain", f"{SECRET}_FILE": ""}
    assert with_secret_files(environment) == {"OTHER_FILE": str(file), SECRET: "plain"}


def test_a_secret_given_twice_is_refused(file):
    with pytest.raises(SecretFileError, match="twice") as refused:
        with_secret_files({SECRET: "plain-plain-plain", f"{SECRET}_FILE": str(file)})
    assert "plain-plain" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff" * 20, "not ASCII"),
        (b"x" * (FILE_BYTES_MAX + 1), "too long"),
    ],
)
def test_what_is_no_secret_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(SecretFileError, match=message):
        with_secret_files({f"{SECRET}_FILE": str(file)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SecretFileError, match=r"path=`.*absent` error=`No such file"):
        with_secret_files({f"{SECRET}_FILE": str(tmp_path / "absent")})
    with pytest.raises(SecretFileError, match="Is a directory"):
        with_secret_files({f"{SECRET}_FILE": str(tmp_path)})


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o440, False), (0o644, True), (0o444, True)]
)
def test_a_server_says_that_everybody_may_read_its_secrets(file, caplog, mode, is_told):
    file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        resolved = with_servers_secrets({"WHIMBREL_MASTER_KEY_FILE": str(file), SECRET: "plain"})
    assert resolved["WHIMBREL_MASTER_KEY"] == "s3cr3t-s3cr3t-s3cr3t"
    assert ("WHIMBREL_MASTER_KEY_FILE" in caplog.text) == is_told
    assert "s3cr3t" not in caplog.text


def test_every_secret_and_its_file_are_secret_variables():
    assert {name for name in secret_variables() if not name.endswith("_FILE")} == set(NAMES)
    assert {f"{name}_FILE" for name in NAMES} <= secret_variables()
