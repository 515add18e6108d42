"""Files of trusted certificates: each tool keeps trusting whom it trusted."""

from pathlib import Path

import pytest

from whimbrel.proxy import trust
from whimbrel.proxy.trust import VARIABLES, read_trusted, write_bundles

OURS = b"-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"
THEIRS = b"-----BEGIN CERTIFICATE-----\ntheirs\n-----END CERTIFICATE-----\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    path = tmp_path / "system.pem"
    path.write_bytes(b"system")
    monkeypatch.setattr(trust, "_system_files", lambda: iter([path]))
    return path


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.pem"
    path.write_bytes(THEIRS)
    return str(path)


def test_every_variable_names_a_file_with_the_authority(tmp_path, system):
    variables = write_bundles(tmp_path, OURS, {})
    assert set(variables) == set(VARIABLES)
    for name, path in variables.items():
        content = Path(path).read_bytes()
        assert content.startswith(OURS)
        assert (b"system" in content) == (name != "NODE_EXTRA_CA_CERTS")
    assert len(set(variables.values())) == 2


@pytest.mark.parametrize(
    ("given", "readers"),
    [
        ("AWS_CA_BUNDLE", {"AWS_CA_BUNDLE"}),
        ("REQUESTS_CA_BUNDLE", {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}),
        ("CURL_CA_BUNDLE", {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}),
        ("SSL_CERT_FILE", {"SSL_CERT_FILE", "CURL_CA_BUNDLE"}),
        ("NODE_EXTRA_CA_CERTS", {"NODE_EXTRA_CA_CERTS"}),
    ],
)
def test_who_was_trusted_before_still_is_and_by_nobody_else(system, theirs, given, readers):
    found = {name for name in VARIABLES if read_trusted(name, {given: theirs}) == THEIRS}
    assert found == readers


def test_a_directory_counts_with_all_its_certificates(tmp_path, system):
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "a.pem").write_bytes(THEIRS)
    (tmp_path / "certs" / "0").symlink_to("a.pem")
    (tmp_path / "certs" / "key").write_bytes(b"nothing of the kind")
    assert (
        read_trusted("REQUESTS_CA_BUNDLE", {"REQUESTS_CA_BUNDLE": str(tmp_path / "certs")})
        == THEIRS
    )


def test_a_file_that_is_not_there_trusts_nobody(tmp_path, system):
    assert read_trusted("SSL_CERT_FILE", {"SSL_CERT_FILE": str(tmp_path / "none")}) == b""


def test_the_systems_certificates_are_found():
    found = list(trust._system_files())
    assert found
    assert all(b"BEGIN CERTIFICATE" in path.read_bytes() for path in found)
