"""Where root credentials come from, and that nobody else can read them."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from whimbrel.auth.credentials import (
    Credential,
    CredentialsError,
    config_directory,
    credential_from_environment,
    credentials_path,
    generate_credential,
    load_or_create_credentials,
    read_credentials,
)
from whimbrel.core.rand import SeededRandom, SystemRandom

SECRET = "s3cr3t-s3cr3t-s3cr3t"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_private_file_and_the_second_reads_it(tmp_path):
    directory = tmp_path / "deep" / "whimbrel"
    first = load_or_create_credentials(directory, random=SystemRandom())
    second = load_or_create_credentials(directory, random=SystemRandom())
    assert (first.is_new, second.is_new) == (True, False)
    assert first.credential == second.credential
    assert mode_of(directory) == 0o700
    assert mode_of(credentials_path(directory)) == 0o600
    assert [path.name for path in directory.iterdir()] == ["credentials"]


def test_an_open_umask_does_not_open_the_file(tmp_path):
    before = os.umask(0)
    try:
        load_or_create_credentials(tmp_path / "w", random=SystemRandom())
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "w") == 0o700
    assert mode_of(tmp_path / "w" / "credentials") == 0o600


def test_first_starts_at_once_agree(tmp_path):
    found = []
    barrier = threading.Barrier(8)

    def start():
        barrier.wait()
        found.append(load_or_create_credentials(tmp_path / "w", random=SystemRandom()))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({root.credential.secret_access_key for root in found}) == 1
    assert sum(root.is_new for root in found) == 1
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["credentials"]


def test_aws_tools_read_the_file(tmp_path):
    root = load_or_create_credentials(tmp_path, random=SystemRandom())
    script = (
        "import botocore.session as s; c = s.get_session().get_credentials();"
        "print(c.access_key, c.secret_key)"
    )
    environment = {
        "AWS_SHARED_CREDENTIALS_FILE": root.source,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }
    answer = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [
        root.credential.access_key_id,
        root.credential.secret_access_key,
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path, mode):
    root = load_or_create_credentials(tmp_path, random=SystemRandom())
    Path(root.source).chmod(mode)
    with pytest.raises(CredentialsError) as caught:
        load_or_create_credentials(tmp_path, random=SystemRandom())
    assert "can be read by others" in caught.value.message
    assert caught.value.hint == f"run: chmod 600 '{root.source}'"


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f"[other]\naws_access_key_id = AAA\naws_secret_access_key = {SECRET}\n",
        f"[default]\naws_secret_access_key = {SECRET}\n",
        f"[default]\n{SECRET}\n{SECRET}\n",
        f"[default]\naws_access_key_id = a b\naws_secret_access_key = {SECRET}\n",
        "[default]\naws_access_key_id = AAA\naws_secret_access_key = short\n",
    ],
)
def test_a_damaged_file_is_refused_without_quoting_it(tmp_path, text):
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(CredentialsError) as caught:
        read_credentials(path)
    shown = f"{caught.value} {caught.value.message} {caught.value.hint} {caught.value.__cause__}"
    assert SECRET not in shown
    assert caught.value.hint


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "credentials").mkdir(mode=0o700)
    with pytest.raises(CredentialsError, match="not a regular file"):
        read_credentials(tmp_path / "credentials")


def test_a_missing_file_is_none(tmp_path):
    assert read_credentials(tmp_path / "credentials") is None


def test_an_unusable_directory_is_explained(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CredentialsError) as caught:
        load_or_create_credentials(tmp_path / "taken" / "whimbrel", random=SystemRandom())
    assert "WHIMBREL_ACCESS_KEY_ID" in caught.value.hint


def test_a_percent_sign_in_a_secret_is_kept(tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id=AAA\naws_secret_access_key=%(x)s%%aaaaaaaaaaaa\n")
    path.chmod(0o600)
    assert read_credentials(path).credential.secret_access_key == "%(x)s%%aaaaaaaaaaaa"


def test_the_environment_names_a_credential():
    environment = {"WHIMBREL_ACCESS_KEY_ID": "m", "WHIMBREL_SECRET_ACCESS_KEY": SECRET}
    with pytest.raises(CredentialsError, match="malformed"):
        credential_from_environment(environment)
    environment["WHIMBREL_ACCESS_KEY_ID"] = "mine"
    found = credential_from_environment(environment)
    assert found.credential == Credential("mine", SECRET)
    assert SECRET not in repr(found)
    assert credential_from_environment({}) is None


@pytest.mark.parametrize("name", ["WHIMBREL_ACCESS_KEY_ID", "WHIMBREL_SECRET_ACCESS_KEY"])
def test_half_a_credential_is_refused(name):
    with pytest.raises(CredentialsError, match="only one half"):
        credential_from_environment({name: SECRET})


def test_generated_keys_differ_and_depend_on_the_randomness_handed_in():
    assert generate_credential(SeededRandom(1)) == generate_credential(SeededRandom(1))
    made = generate_credential(SystemRandom())
    assert made != generate_credential(SystemRandom())
    assert (len(made.access_key_id), len(made.secret_access_key)) == (20, 40)


def test_the_directory_follows_the_xdg_rules(tmp_path):
    assert config_directory({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/whimbrel")
    assert config_directory({"XDG_CONFIG_HOME": "rel", "HOME": "/h"}) == Path("/h/.config/whimbrel")
    with pytest.raises(CredentialsError):
        config_directory({})
