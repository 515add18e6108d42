"""aiobotocore, botocore over aiohttp: many requests at once on one event loop, pages, refusals."""

import asyncio

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

BUCKET = "aiobotocore"
PLACE = {"vectorBucketName": BUCKET, "indexName": "birds"}
BATCH = 40
BATCH_COUNT = 25
KEYS = [f"{number:04}" for number in range(BATCH * BATCH_COUNT)]


def drive(steps):
    """Runs a coroutine function with a client."""

    async def main():
        config = AioConfig(max_pool_connections=50, retries={"total_max_attempts": 1})
        async with get_session().create_client("s3vectors", config=config) as api:
            return await steps(api)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def bucket():
    async def make(api):
        await api.create_vector_bucket(vectorBucketName=BUCKET)
        await api.create_index(**PLACE, dataType="float32", dimension=2, distanceMetric="euclidean")

    async def remove(api):
        async for page in api.get_paginator("list_indexes").paginate(vectorBucketName=BUCKET):
            for index in page["indexes"]:
                await api.delete_index(indexArn=index["indexArn"])
        await api.delete_vector_bucket(vectorBucketName=BUCKET)

    drive(make)
    yield
    drive(remove)


@pytest.fixture(scope="module")
def filled(bucket):
    """Filled by many puts at once."""

    async def put(api):
        def vector(key):
            number = int(key)
            return {
                "key": key,
                "data": {"float32": [float(number), 0.0]},
                "metadata": {"number": number, "part": number // BATCH},
            }

        await asyncio.gather(
            *(
                api.put_vectors(
                    **PLACE, vectors=[vector(key) for key in KEYS[start : start + BATCH]]
                )
                for start in range(0, len(KEYS), BATCH)
            )
        )

    drive(put)


async def listed(api, **options):
    pages = api.get_paginator("list_vectors").paginate(**PLACE, **options)
    return [vector["key"] async for page in pages for vector in page["vectors"]]


def test_every_put_is_there_when_it_is_acknowledged(filled):
    assert sorted(drive(lambda api: listed(api, maxResults=300))) == KEYS


def test_segments_at_once(filled):
    async def steps(api):
        parts = (listed(api, segmentCount=16, segmentIndex=part) for part in range(16))
        return [key for part in await asyncio.gather(*parts) for key in part]

    assert sorted(drive(steps)) == KEYS


def test_queries_at_once(filled):
    async def query(api, part):
        return await api.query_vectors(
            **PLACE,
            queryVector={"float32": [0.0, 0.0]},
            topK=3,
            filter={"part": part},
            returnDistance=True,
        )

    async def steps(api):
        return await asyncio.gather(*(query(api, part) for part in range(BATCH_COUNT)))

    for part, answer in enumerate(drive(steps)):
        found = [(hit["key"], hit["distance"]) for hit in answer["vectors"]]
        assert found == [(KEYS[part * BATCH + at], part * BATCH + at) for at in range(3)]


def test_query_in_pages(filled):
    async def steps(api):
        pages = api.get_paginator("query_vectors").paginate(
            **PLACE, queryVector={"float32": [1000.0, 0.0]}, topK=250
        )
        return [[hit["key"] for hit in page["vectors"]] async for page in pages]

    pages = drive(steps)
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [key for page in pages for key in page] == KEYS[:-251:-1]


def test_writes_to_one_key_at_once_end_in_one_of_them(filled):
    async def put(api, number):
        await api.put_vectors(
            **PLACE,
            vectors=[
                {"key": "one", "data": {"float32": [number, 1.0]}, "metadata": {"number": number}}
            ],
        )

    async def steps(api):
        await asyncio.gather(*(put(api, float(number)) for number in range(20)))
        answer = await api.get_vectors(**PLACE, keys=["one"], returnData=True, returnMetadata=True)
        await api.delete_vectors(**PLACE, keys=["one"])
        return answer["vectors"]

    (vector,) = drive(steps)
    assert vector["data"]["float32"] == [vector["metadata"]["number"], 1.0]
    assert "one" not in drive(listed)


def test_creations_at_once_have_one_winner(bucket):
    async def steps(api):
        async def create():
            try:
                await api.create_index(
                    vectorBucketName=BUCKET,
                    indexName="contested",
                    dataType="float32",
                    dimension=2,
                    distanceMetric="cosine",
                )
            except api.exceptions.ConflictException:
                return False
            return True

        return await asyncio.gather(*(create() for _ in range(8)))

    assert sorted(drive(steps)) == [False] * 7 + [True]


def test_refusals_leave_the_connection_usable(filled):
    async def steps(api):
        for _ in range(5):
            with pytest.raises(api.exceptions.ValidationException, match="Invalid filter"):
                await api.query_vectors(
                    **PLACE, queryVector={"float32": [0.0, 0.0]}, topK=1, filter={}
                )
            with pytest.raises(api.exceptions.NotFoundException):
                await api.get_index(vectorBucketName=BUCKET, indexName="no-such-index")
        return await api.get_index(**PLACE)

    assert drive(steps)["index"]["dimension"] == 2
