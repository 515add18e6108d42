"""Every client that is tested has its row in the table of clients, at the version that its folder pins."""

import json
import re

import pytest

from tests.clients.results import pinned_versions
from tests.tidy.source_tree import ROOT, files_like, text_of

ROWS = json.loads((ROOT / "tests/clients/results.json").read_text(encoding="utf-8"))
FOLDERS = {
    path.parts[2]
    for path in files_like(".py", under="tests/clients/")
    if len(path.parts) > 3 and path.name.startswith("test_")
}

POM = """
<dependency><groupId>g</groupId><artifactId>bom</artifactId><version>7</version></dependency>
<dependency><groupId>g</groupId><artifactId>a</artifactId></dependency>
"""


def test_folders_and_rows_are_the_same():
    assert set(ROWS) == FOLDERS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_row_names_the_pinned_version(name):
    assert ROWS[name]["version"] in pinned_versions(name, ROWS[name]["client"])


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_tests_of_a_client_are_marked(name):
    """Unmarked they would install things in the default tier."""
    paths = files_like(".py", under=f"tests/clients/{name}/test_")
    marked = re.compile(r"^pytestmark = .*\bpytest\.mark\.clients\b", re.MULTILINE)
    assert [path for path in paths if not marked.search(text_of(path))] == []


@pytest.mark.parametrize(
    ("file", "text", "package", "version"),
    [
        ("requirements.txt", "boto3-stubs==1.0\nboto3==1.40.61\n", "boto3", "1.40.61"),
        ("requirements.txt", "moto[s3]==5.2.5 ; a\n", "moto", "5.2.5"),
        ("package-lock.json", '{"packages":{"node_modules/@a/b":{"version":"3"}}}', "@a/b", "3"),
        ("go.mod", "require (\n\ta.b/c/v2 v1.2.3\n)\n", "a.b/c/v2", "1.2.3"),
        ("Cargo.lock", '[[package]]\nname = "x"\nversion = "2"\n', "x", "2"),
        (
            "pom.xml",
            POM,
            "g:a",
            "7",
        ),
    ],
)
def test_pinned_version_is_read(tmp_path, monkeypatch, file, text, package, version):
    monkeypatch.setattr("tests.clients.results.folder", lambda name: tmp_path / name)
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / file).write_text(text)
    assert pinned_versions("client", package) == {version}
    assert pinned_versions("client", "other") == set()
