"""Imports of objects and exports to them: in ranges, in parts, and never whole in memory."""

import asyncio

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.bulk.loading import BUCKET, INDEX, write_lines
from whimbrel.bulk import (
    Creation,
    ExportRequest,
    ImportRequest,
    Mapping,
    export_vectors,
    import_vectors,
)
from whimbrel.bulk.errors import SourceChangedError, SourceError
from whimbrel.core.errors import StoreError
from whimbrel.storage import cloud
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.open_store import StoreSettings
from whimbrel.testing.node import ManualClock, Node

ROW_COUNT = 300
KEYS = {"region": "us-east-1", "access_key_id": "testing", "secret_access_key": "testing"}


@pytest.fixture
def client(mock_endpoint):
    made = boto3.client(
        "s3",
        endpoint_url=mock_endpoint,
        region_name=KEYS["region"],
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )
    made.create_bucket(Bucket="bulk")
    yield made
    for item in made.list_objects_v2(Bucket="bulk").get("Contents", []):
        made.delete_object(Bucket="bulk", Key=item["Key"])
    made.delete_bucket(Bucket="bulk")


@pytest.fixture
def cloud_settings(mock_endpoint):
    return CloudSettings(endpoint=mock_endpoint, **KEYS)


async def start():
    clock = ManualClock()
    node = Node(MemoryStore(clock), clock=clock)
    await node.start()
    return node


async def load(node, settings, *sources, **options):
    request = ImportRequest(
        bucket_name=BUCKET, index_name=INDEX, sources=sources, creation=Creation(), **options
    )
    stores = StoreSettings(cloud=settings, is_probed=False)
    return await import_vectors(node.context, request, store_settings=stores)


def rows(start, limit):
    return [{"key": f"key-{number}", "vector": [number, 1]} for number in range(start, limit)]


def upload(client, path, key):
    client.upload_file(str(path), "bulk", key)


def test_objects_are_found_by_name_folder_and_pattern(client, cloud_settings, tmp_path):
    half = ROW_COUNT // 2
    upload(client, write_lines(tmp_path / "a.jsonl", *rows(0, half)), "in/a.jsonl")
    table = pa.table(
        {
            "key": [row["key"] for row in rows(half, ROW_COUNT)],
            "vector": [row["vector"] for row in rows(half, ROW_COUNT)],
        }
    )
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=40)
    upload(client, tmp_path / "b.parquet", "in/deep/b.parquet")
    upload(client, tmp_path / "a.jsonl", "out/a.txt")

    async def main():
        for sources, count in (
            (["s3://bulk/in"], ROW_COUNT),
            (["s3://bulk/in/"], ROW_COUNT),
            (["s3://bulk/in/*.jsonl"], half),
            (["s3://bulk/*/deep/*"], half),
            (["s3://bulk/in/a.jsonl", "s3://bulk/in/deep/b.parquet"], ROW_COUNT),
        ):
            node = await start()
            report = await load(node, cloud_settings, *sources)
            assert report.row_count == count
            assert len(await node.list_all(BUCKET, INDEX)) == count
            await node.close()
        node = await start()
        for source in ("s3://bulk/none/", "s3://bulk/none.jsonl", "s3://bulk/out/a.txt"):
            with pytest.raises(SourceError):
                await load(node, cloud_settings, source)
        with pytest.raises(StoreError):
            await load(node, cloud_settings, "s3://nowhere/a.jsonl")
        await node.close()

    asyncio.run(main())


def test_an_object_that_is_replaced_meanwhile_is_noticed(client, cloud_settings, tmp_path):
    upload(client, write_lines(tmp_path / "a.jsonl", *rows(0, 10)), "a.jsonl")

    async def main():
        node = await start()
        with pytest.raises(SourceChangedError):
            await load(
                node,
                cloud_settings,
                "s3://bulk/a.jsonl",
                on_read=lambda _: client.put_object(Bucket="bulk", Key="a.jsonl", Body=b"{}"),
            )
        assert await node.list_all(BUCKET, INDEX) == {}
        await node.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["all.parquet", pytest.param("all.jsonl.gz", marks=pytest.mark.long)]
)
def test_an_export_is_uploaded_in_parts(client, cloud_settings, tmp_path, monkeypatch, name):
    monkeypatch.setattr(cloud, "UPLOAD_PART_BYTES", 5 << 20)  # the smallest that S3 takes
    dimension = 1024
    matrix = np.random.default_rng(1).standard_normal((2000, dimension)).astype(np.float32)
    np.save(tmp_path / "a.npy", matrix)

    async def main():
        node, other = await start(), await start()
        mapping = Mapping(key_prefix="key-")
        await load(node, cloud_settings, str(tmp_path / "a.npy"), mapping=mapping)
        target = f"s3://bulk/out/{name}"
        request = ExportRequest(bucket_name=BUCKET, index_name=INDEX, target=target)
        report = await export_vectors(node.context, request, cloud=cloud_settings)
        assert report.row_count == len(matrix)
        size = client.head_object(Bucket="bulk", Key=f"out/{name}")["ContentLength"]
        assert size > 5 << 20
        assert (await load(other, cloud_settings, target)).row_count == len(matrix)
        page = await other.query(BUCKET, INDEX, matrix[7], top_k=1)
        assert page.keys == [b"key-7"]
        refused = ExportRequest(bucket_name=BUCKET, index_name=INDEX, target="s3://nowhere/a.jsonl")
        with pytest.raises(StoreError):
            await export_vectors(node.context, refused, cloud=cloud_settings)
        for one in (node, other):
            await one.close()

    asyncio.run(main())
