"""Extensions: what the service lacks; `wire.extension_model` lists them."""

from dataclasses import replace
from typing import Final

from msgspec import UNSET

from whimbrel.engine.find import FindRequest
from whimbrel.engine.manifest import Calibration
from whimbrel.engine.model import Blobs, SearchEffort
from whimbrel.engine.update import UpdateRequest
from whimbrel.engine.warm import WarmRequest
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.extension_output import (
    CalibrationOutput,
    CountVectorsOutput,
    DeleteVectorsByFilterOutput,
    GetIndexStatisticsOutput,
    MeasureRecallOutput,
    RecallAt,
    RecallMeasurement,
    SegmentStatistics,
    ShareAt,
    TailStatistics,
    UpdateMetadataOutput,
    WarmIndexOutput,
    WarmSegment,
)
from whimbrel.wire.handlers.resource import index_of
from whimbrel.wire.handlers.vectors import PAGE_SIZE_DEFAULT, make_query
from whimbrel.wire.output import Answer, Hits, or_unset
from whimbrel.wire.record import check_key_bytes
from whimbrel.wire.service import Call

DELETE_COUNT_DEFAULT: Final = 10_000
QUERY_COUNT_DEFAULT: Final = 32
RECALL_COUNTS_DEFAULT: Final = (10, 100)
MERGE: Final = "merge"


async def count_vectors(call: Call) -> Answer:
    """Counts the vectors of an index, or those that match a filter."""
    names = index_of(call)
    count = await call.service.engine.count_vectors(*names, condition=call.input.get("filter"))
    return CountVectorsOutput(count)


async def find_vectors(call: Call) -> Answer:
    """Returns a page of the vectors with a prefix, or that match a filter, in order of key."""
    names = index_of(call)
    request = FindRequest(
        prefix=call.input.get("prefix", "").encode(),
        filter=call.input.get("filter"),
        page_size=call.input.get("maxResults", PAGE_SIZE_DEFAULT),
        page_token=call.input.get("nextToken"),
        return_vectors=call.input.get("returnData", False),
        return_metadata=call.input.get("returnMetadata", False),
        principal=call.principal.user_id,
    )
    return await call.service.engine.find_vectors(*names, request)


async def search_vectors(call: Call) -> Answer:
    """Returns a page of the nearest vectors, as QueryVectors does, and does what that cannot."""
    names = index_of(call)
    request = replace(
        make_query(call),
        effort=SearchEffort(call.input.get("effort", SearchEffort.DEFAULT)),
        return_vectors=call.input.get("returnData", False),
        is_extended=True,
    )
    return Hits(await call.service.engine.query(*names, request), request.return_distance)


async def update_metadata(call: Call) -> Answer:
    """Changes or replaces the metadata of vectors that exist."""
    names = index_of(call)
    updates = call.input["updates"]
    keys = Blobs.of(update["key"].encode() for update in updates)
    check_key_bytes(keys, member="updates")
    for number, update in enumerate(updates):
        if not isinstance(update["metadata"], dict):
            raise SerializationError(f"Expected an object at '/updates/{number}/metadata'")
    request = UpdateRequest(
        keys=list(keys),
        changes=[update["metadata"] for update in updates],
        is_merge=call.input.get("mode", MERGE) == MERGE,
    )
    missing = await call.service.engine.update_metadata(*names, request)
    return UpdateMetadataOutput([key.decode() for key in missing])


async def delete_vectors_by_filter(call: Call) -> Answer:
    """Deletes vectors that match a filter, a bounded number of them."""
    names = index_of(call)
    erased = await call.service.engine.delete_matching(
        *names,
        condition=call.input["filter"],
        count_max=call.input.get("maxResults", DELETE_COUNT_DEFAULT),
    )
    return DeleteVectorsByFilterOutput(erased.deleted_count, erased.remaining_count)


async def measure_recall(call: Call) -> Answer:
    """Measures what queries find of what there is."""
    names = index_of(call)
    top_k = call.input.get("topK")
    measured = await call.service.engine.measure_recall(
        *names,
        counts=RECALL_COUNTS_DEFAULT if top_k is None else (top_k,),
        query_count=call.input.get("queryCount", QUERY_COUNT_DEFAULT),
    )
    return MeasureRecallOutput(
        measured.query_count,
        [
            RecallMeasurement(
                one.k, one.recall, one.worst_recall, one.scanned_share, one.compared_count
            )
            for one in measured.found
        ],
    )


async def warm_index(call: Call) -> Answer:
    """Fetches what queries of an index read."""
    names = index_of(call)
    request = WarmRequest(
        with_vectors=call.input.get("includeVectors", False),
        page_token=call.input.get("nextToken"),
        principal=call.principal.user_id,
    )
    warmed = await call.service.engine.warm_index(*names, request)
    segments = [WarmSegment(one.object_bytes, one.fetched_bytes) for one in warmed.segments]
    return WarmIndexOutput(segments, or_unset(warmed.next_token))


async def get_index_statistics(call: Call) -> Answer:
    """Tells how an index is stored."""
    bucket_name, index_name = index_of(call)
    found = await call.service.engine.get_statistics(bucket_name, index_name)
    calibration = found.calibration
    return GetIndexStatisticsOutput(
        vector_bucket_name=bucket_name,
        index_name=index_name,
        index_arn=call.service.arns.format_index(bucket_name, index_name),
        dimension=found.config.dimension,
        distance_metric=found.config.metric.value,
        approximate_vector_count=found.segment_vector_count + found.tail_vector_count,
        segments=SegmentStatistics(
            found.segment_count,
            found.segment_vector_count,
            found.segment_deleted_count,
            found.segment_bytes,
        ),
        tail=TailStatistics(
            found.log_object_count,
            found.tail_vector_count,
            found.tail_deleted_count,
            found.tail_bytes,
        ),
        generation=found.generation,
        position=found.position,
        calibration=UNSET if calibration is None else _describe(calibration),
    )


def _describe(calibration: Calibration) -> CalibrationOutput:
    return CalibrationOutput(
        measured_at=calibration.measured_at_s,
        checked_at=calibration.checked_at_s,
        query_count=calibration.query_count,
        recall_target=calibration.target,
        recalls=[RecallAt(k, recall) for k, recall in calibration.recalls],
        shares=[ShareAt(k, share) for k, share in calibration.shares],
    )
