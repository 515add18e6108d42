"""What `whimbrel serve` says of itself."""

import json

import pytest

from whimbrel.cli.serve import _announce, _announce_json
from whimbrel.server.runtime_file import RunningServer
from whimbrel.server.serving import Announcement


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_store_is_called_plain_only_where_it_is(capsys, is_encrypted):
    server = RunningServer(
        endpoint="http://127.0.0.1:7676",
        region="us-east-1",
        store="file:///x",
        pid=1,
        no_auth=False,
    )
    announcement = Announcement(
        server=server,
        credentials="file",
        are_new=False,
        kernel="scalar",
        indexer="off",
        is_encrypted=is_encrypted,
    )
    _announce(announcement)
    assert ("NOT encrypted" in capsys.readouterr().out) != is_encrypted
    _announce_json(announcement)
    assert json.loads(capsys.readouterr().out)["encryption_at_rest"] is is_encrypted
