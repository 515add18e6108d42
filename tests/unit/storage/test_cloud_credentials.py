"""What is said when no credentials were given, and when those of an instance are all there is."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from whimbrel.core.errors import (
    Durability,
    ObjectNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_credentials import HINT, NOTE, explain_missing, has_credentials
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.testing.store_suite import make_data


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"AWS_REGION": "us-east-1", "AWS_PROFILE": "work"}, False),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, False),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, True),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, True),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}, True),
        ({"AWS_METADATA_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"AWS_SKIP_SIGNATURE": "true"}, True),
    ],
)
def test_what_counts_as_credentials(environment, expected):
    assert has_credentials(CloudSettings(), environment) is expected
    assert has_credentials(CloudSettings(access_key_id="a", secret_access_key="b"), environment)


@pytest.mark.parametrize(
    ("arguments", "environment", "missing"),
    [
        ({"access_key_id": "a"}, {}, "secret"),
        ({"secret_access_key": "hush"}, {}, "id"),
        ({}, {"AWS_ACCESS_KEY_ID": "a"}, "secret"),
        ({}, {"AWS_SECRET_ACCESS_KEY": "hush"}, "id"),
    ],
)
def test_half_a_key_is_refused(arguments, environment, missing):
    with pytest.raises(StoreRefusedError, match=f"the {missing} of the store's key") as caught:
        has_credentials(CloudSettings(**arguments), environment)
    assert caught.value.hint == HINT
    assert "hush" not in str(caught.value)


def test_failures_say_what_was_looked_for_and_mean_the_same():
    refused = explain_missing(StoreRefusedError("no."))
    assert (type(refused), str(refused)) == (StoreRefusedError, f"no. {NOTE}")
    failed = explain_missing(StoreUnavailableError("late.", durability=Durability.UNKNOWN))
    assert NOTE in str(failed)
    assert failed.durability is Durability.UNKNOWN
    missing = ObjectNotFoundError("none.")
    assert explain_missing(missing) is missing


class Refusing(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("is_given", [False, True])
def test_a_refusal_names_missing_credentials_where_they_are_missing(monkeypatch, is_given):
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    async def main():
        key = {"access_key_id": "a", "secret_access_key": "b"} if is_given else {}
        store = open_cloud_store("s3://bucket", settings=CloudSettings(endpoint=endpoint, **key))
        with pytest.raises(StoreRefusedError) as caught:
            await store.put_if_absent("k", make_data("k"))
        await store.close()
        return caught.value

    try:
        # The metadata service is played by the server too, and naming its address counts as credentials.
        monkeypatch.setattr("whimbrel.storage.cloud.has_credentials", lambda *_: is_given)
        if not is_given:
            monkeypatch.setenv("AWS_METADATA_ENDPOINT", endpoint)
        error = asyncio.run(main())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (NOTE in str(error), error.hint) == ((False, "") if is_given else (True, HINT))


@pytest.mark.parametrize("endpoint", ["notaurl", "ftp://h", "http://", "http://u:p@h", "h:9000"])
def test_an_address_that_is_no_url_is_refused(endpoint):
    settings = CloudSettings(endpoint=endpoint, access_key_id="a", secret_access_key="b")
    with pytest.raises(StoreRefusedError, match="no URL"):
        open_cloud_store("s3://bucket", settings=settings)
