"""The S3-compatible servers that these tests run against."""

import itertools
import logging

import pytest

from whimbrel.testing.s3_server import INSTALL_COMMAND, find_program, run_server

_bucket_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real server, shared by all tests of a process; skips where none is installed."""
    program = find_program()
    if program is None:
        pytest.skip(f"no S3-compatible server is installed; run {INSTALL_COMMAND}")
    with run_server(program, tmp_path_factory.mktemp("s3-server")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server):
    """The name of a new bucket on the real server."""
    name = f"bucket-{next(_bucket_numbers)}"
    s3_server.make_client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def mock_endpoint():
    """The address of moto's S3, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
