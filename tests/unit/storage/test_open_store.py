"""Stores by URL."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.core.errors import StoreRefusedError, StoreUnavailableError
from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import RequestClass
from whimbrel.storage.open_store import StoreSettings, open_store, read_path
from whimbrel.storage.retry import RetrySettings
from whimbrel.testing.store_suite import make_data

KEYS = {"region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "FILE://{}"])
def test_a_directory_by_path_or_url(tmp_path, form):
    async def main():
        path = tmp_path / "a b"
        opened = await open_store(form.format(path).replace(" ", "%20" if "://" in form else " "))
        await opened.store.put_if_absent("k", make_data("k"))
        assert opened.store.url == f"file://{path}"
        assert not opened.store.is_remote
        assert (path / "k").read_bytes() == make_data("k")
        assert opened.counter.count_requests() == {RequestClass.PUT: 1}
        await opened.store.close()

    asyncio.run(main())


def test_memory_is_a_new_store_each_time():
    async def main():
        first, second = await open_store("memory:"), await open_store("memory:")
        await first.store.put("k", b"x")
        assert (await second.store.list("")).objects == []
        assert first.counter.count_requests() == {RequestClass.PUT: 1, RequestClass.HEAD: 1}

    asyncio.run(main())


def test_paths_are_read_as_a_shell_user_means_them():
    assert read_path("./data") == Path("data")
    assert read_path("~/data") == Path.home() / "data"
    assert read_path("file:///srv/a%20b") == Path("/srv/a b")
    assert read_path("odd:name") == Path("odd:name")


@pytest.mark.parametrize(
    "url",
    ["", "http://host/x", "s3x://b", "file://srv/data", "redis://x", "a\0b"],
)
def test_what_is_no_store_is_refused(url):
    with pytest.raises(StoreRefusedError):
        asyncio.run(open_store(url))


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///key", "s3://user@bucket", "s3://bucket?x=y", "s3://b/../c", "s3://b/.x"]
)
def test_what_is_no_cloud_store_is_refused(url):
    with pytest.raises(StoreRefusedError) as caught:
        open_cloud_store(url, settings=CloudSettings(**KEYS))
    assert "x=y" not in str(caught.value)


@pytest.mark.parametrize(
    ("bucket", "arguments", "is_virtual", "endpoint"),
    [
        ("bucket", {}, True, None),
        ("dotted.bucket", {}, False, None),
        ("bucket", {"is_path_style": True}, False, None),
        ("bucket", {"endpoint": "http://127.0.0.1:9000"}, False, "http://127.0.0.1:9000"),
        ("bucket", {"endpoint": "http://localhost:9000/"}, False, "http://localhost:9000"),
        ("bucket", {"endpoint": "http://[::1]:9000"}, False, "http://[::1]:9000"),
        ("bucket", {"endpoint": "https://s3.corp.test"}, True, "https://bucket.s3.corp.test"),
        (
            "bucket",
            {"endpoint": "https://s3.corp.test:444", "is_path_style": True},
            False,
            "https://s3.corp.test:444",
        ),
    ],
)
def test_where_the_bucket_goes(monkeypatch, bucket, arguments, is_virtual, endpoint):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    settings = CloudSettings(**KEYS, **arguments)
    store = open_cloud_store(f"s3://{bucket}/some/prefix/", settings=settings)
    assert store.url == f"s3://{bucket}/some/prefix"
    assert store.is_remote
    config = store._client.config
    assert str(config["virtual_hosted_style_request"]).lower() == str(is_virtual).lower()
    assert config.get("endpoint", config.get("aws_endpoint")) == endpoint


def test_secrets_are_not_shown():
    settings = StoreSettings(cloud=CloudSettings(secret_access_key="hush", session_token="quiet"))
    assert "hush" not in repr(settings)
    assert "quiet" not in repr(settings)


def test_a_store_that_is_not_there_is_unavailable():
    async def main():
        cloud = CloudSettings(endpoint="http://127.0.0.1:9", **KEYS)
        settings = StoreSettings(cloud=cloud, retry=RetrySettings(attempts_max=1))
        with pytest.raises(StoreUnavailableError):
            await open_store("s3://bucket", settings=settings)

    asyncio.run(main())


def test_no_cloud_sdk_is_imported_for_a_local_store():
    program = (
        "import asyncio, sys\n"
        "from whimbrel.storage.open_store import open_store\n"
        "asyncio.run(open_store('memory:'))\n"
        "sys.exit(bool({'obstore', 'boto3', 'botocore'} & set(sys.modules)))\n"
    )
    source = Path(__file__).parents[3] / "src"
    found = subprocess.run(
        [sys.executable, "-c", program], check=False, env={"PYTHONPATH": str(source)}
    )
    assert found.returncode == 0
