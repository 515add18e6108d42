"""The checks of what is published find what they are for."""

import io
import tarfile
import zipfile

import pytest

from tools.dist_contents import (
    FILE_BYTES_MAX,
    HOMES,
    check_sdist,
    check_wheel,
    read_sdist,
    read_wheel,
)

NAME = "whimbrel-0.1.0-cp311-cp311-manylinux_2_34_x86_64.whl"
EXTENSION = "whimbrel/kernel/_native.cpython-311-x86_64-linux-gnu.so"
SOURCES = ["whimbrel/__init__.py", "whimbrel/py.typed"]
PRIVATE = ["/srv/build/"]


@pytest.fixture
def wheel():
    return {
        "whimbrel/__init__.py": b"",
        "whimbrel/py.typed": b"",
        "whimbrel/commit.txt": b"0123456789ab\n",
        EXTENSION: b"\x7fELF",
        "whimbrel-0.1.0.dist-info/METADATA": b"Name: whimbrel\n",
        "whimbrel-0.1.0.dist-info/licenses/LICENSE": b"Apache",
    }


@pytest.fixture
def sdist():
    return {
        "LICENSE": b"Apache",
        "PKG-INFO": b"Name: whimbrel\n",
        "native/commit.txt": b"0123456789ab-dirty\n",
        "packaging/smoke.py": b"",
        "src/whimbrel/__init__.py": b"",
    }


def findings_of_wheel(files, name=NAME):
    return check_wheel(name, files, sources=SOURCES, private=PRIVATE)


def findings_of_sdist(files):
    return check_sdist(files, sources=["src/whimbrel/__init__.py"], private=PRIVATE)


def test_a_good_wheel_and_a_good_sdist_pass(wheel, sdist):
    assert findings_of_wheel(wheel) == []
    assert findings_of_sdist(sdist) == []


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("whimbrel/py.typed", "py.typed"),
        ("whimbrel/commit.txt", "commit.txt"),
        (EXTENSION, "extension"),
        ("whimbrel-0.1.0.dist-info/licenses/LICENSE", "licence"),
    ],
)
def test_what_a_wheel_lacks_is_named(wheel, removed, named):
    del wheel[removed]
    (finding,) = findings_of_wheel(wheel)
    assert named in finding


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("tests/test_x.py", b"", "tests lies beside"),
        ("whimbrel/kernel/_native.cpython-312-x86_64-linux-gnu.so", b"", "expected one native"),
        ("whimbrel/data.bin", bytes(FILE_BYTES_MAX + 1), "2,097,153 bytes"),
        ("whimbrel/x.py", f"open('{HOMES[0]}somebody/x')".encode(), f"{HOMES[0]}somebody"),
        (EXTENSION, b"\x7fELF\0/srv/build/native/x.cpp\0", "/srv/build/native/x.cpp"),
    ],
)
def test_what_a_wheel_must_not_hold_is_named(wheel, file, content, named):
    wheel[file] = content
    (finding,) = findings_of_wheel(wheel)
    assert named in finding


def test_a_wheel_for_any_machine_has_nothing_native(wheel):
    name = "whimbrel-0.1.0-py3-none-any.whl"
    (finding,) = findings_of_wheel(wheel, name)
    assert EXTENSION in finding
    del wheel[EXTENSION]
    assert findings_of_wheel(wheel, name) == []


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("tests/test_x.py", "tests has no business"),
        ("packaging/compose.yaml", "packaging/compose.yaml has no business"),
        ("src/other/x.py", "src/other has no business"),
        ("native/CMakeFiles/x.txt", "made by a build"),
        ("src/whimbrel/kernel/_native.so", "made by a build"),
    ],
)
def test_what_an_sdist_must_not_hold_is_named(sdist, file, named):
    sdist[file] = b""
    (finding,) = findings_of_sdist(sdist)
    assert named in finding


def test_what_an_sdist_lacks_is_named(sdist):
    del sdist["src/whimbrel/__init__.py"], sdist["native/commit.txt"]
    assert len(findings_of_sdist(sdist)) == 2


def test_archives_are_read_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr("whimbrel/x.py", b"1")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("whimbrel-0.1.0/src/x.py")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"2"))
    assert read_wheel(tmp_path / "x.whl") == {"whimbrel/x.py": b"1"}
    assert read_sdist(tmp_path / "x.tar.gz") == {"src/x.py": b"2"}
