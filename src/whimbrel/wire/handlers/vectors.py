"""Vectors: put, get, list, delete, query."""

from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import Blobs, IndexMode, ListRequest, QueryRequest
from whimbrel.wire.handlers.resource import index_of
from whimbrel.wire.output import Answer, EmptyOutput, Hits
from whimbrel.wire.record import check_key_bytes
from whimbrel.wire.service import Call
from whimbrel.wire.text_search import read_texts

PAGE_SIZE_DEFAULT: Final = 500
SEGMENT_RANGE_TEXT: Final = "segmentIndex must be less than segmentCount"
QUERY_INPUT_TEXT: Final = "Must specify queryVector, queryTexts or both"


async def put_vectors(call: Call) -> Answer:
    """Writes records; answers when they are durable."""
    names = index_of(call)
    assert call.batch is not None
    await call.service.engine.put_vectors(*names, call.batch)
    return EmptyOutput()


async def delete_vectors(call: Call) -> Answer:
    """Deletes records; answers when that is durable."""
    names = index_of(call)
    await call.service.engine.delete_vectors(*names, _keys(call))
    return EmptyOutput()


async def get_vectors(call: Call) -> Answer:
    """Returns the records that exist."""
    names = index_of(call)
    return await call.service.engine.get_vectors(
        *names,
        _keys(call),
        return_vectors=call.input.get("returnData", False),
        return_metadata=call.input.get("returnMetadata", False),
    )


async def list_vectors(call: Call) -> Answer:
    """Returns a page of an index's records."""
    names = index_of(call)
    count, index = _segment(call.input)
    request = ListRequest(
        page_size=call.input.get("maxResults", PAGE_SIZE_DEFAULT),
        page_token=call.input.get("nextToken"),
        segment_count=count,
        segment_index=index,
        return_vectors=call.input.get("returnData", False),
        return_metadata=call.input.get("returnMetadata", False),
        principal=call.principal.user_id,
    )
    return await call.service.engine.list_vectors(*names, request)


async def query_vectors(call: Call) -> Answer:
    """Returns a page of the nearest records."""
    names = index_of(call)
    request = make_query(call)
    return Hits(await call.service.engine.query(*names, request), request.return_distance)


def make_query(call: Call) -> QueryRequest:
    """Returns the query that a call asks for.

    Raises:
        InvalidRequestError: it asks for nothing.
    """
    if "queryVector" not in call.input and "queryTexts" not in call.input:
        raise InvalidRequestError(QUERY_INPUT_TEXT, ("queryVector", QUERY_INPUT_TEXT))
    mode = call.input.get("queryMode")
    return QueryRequest(
        vector=call.input["queryVector"]["float32"] if "queryVector" in call.input else None,
        texts=read_texts(call.input.get("queryTexts", ())),
        top_k=call.input["topK"],
        filter=call.input.get("filter"),
        return_metadata=call.input.get("returnMetadata", False),
        return_distance=call.input.get("returnDistance", False),
        page_token=call.input.get("nextToken"),
        principal=call.principal.user_id,
        mode=None if mode is None else IndexMode(mode),
        explain=call.explain,
        return_scores=call.input.get("returnScores", False),
    )


def _keys(call: Call) -> Blobs:
    keys = Blobs.of(key.encode() for key in call.input["keys"])
    check_key_bytes(keys)
    return keys


def _segment(request: dict[str, Any]) -> tuple[int, int]:
    # AWS's SDK for Go sends no zeros: segment 0 comes without its index.
    count = request.get("segmentCount", 1)
    index = request.get("segmentIndex", 0)
    if index >= count:
        raise InvalidRequestError(SEGMENT_RANGE_TEXT, ("segmentIndex", SEGMENT_RANGE_TEXT))
    return count, index
