"""Who may read a file that only its owner may read."""

import os

import pytest

from whimbrel.core.private_file import find_exposure

ROOT_ID, SERVICE_ID, OTHER_ID = 0, 64000, 1000


def status(mode, owner):
    return os.stat_result((0o100000 | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """The directory that systemd made for this service, which runs as a user of its own."""
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE_ID)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("owner", [ROOT_ID, SERVICE_ID])
@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_what_systemd_hands_over_is_taken_as_it_is(credentials, owner, mode):
    assert find_exposure(status(mode, owner), credentials / "users") is None


@pytest.mark.parametrize(
    ("mode", "owner"), [(0o440, OTHER_ID), (0o444, ROOT_ID), (0o640, SERVICE_ID), (0o660, ROOT_ID)]
)
def test_what_it_does_not_make_so_is_refused_there_too(credentials, mode, owner):
    assert find_exposure(status(mode, owner), credentials / "users") is not None


@pytest.mark.parametrize(("mode", "owner"), [(0o400, ROOT_ID), (0o440, SERVICE_ID)])
def test_elsewhere_a_file_is_its_owners_alone(credentials, monkeypatch, mode, owner):
    for path in (credentials.parent / "users", credentials / "deeper" / "users"):
        assert find_exposure(status(mode, owner), path) is not None
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert find_exposure(status(mode, owner), credentials / "users") is not None
    assert find_exposure(status(0o600, SERVICE_ID), credentials / "users") is None
