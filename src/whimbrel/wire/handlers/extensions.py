"""Extensions: what the service lacks; `wire.extension_model` lists them."""

from msgspec import UNSET

from whimbrel.engine.manifest import Calibration
from whimbrel.wire.extension_output import (
    CalibrationOutput,
    CountVectorsOutput,
    GetIndexStatisticsOutput,
    RecallAt,
    SegmentStatistics,
    ShareAt,
    TailStatistics,
)
from whimbrel.wire.naming import resolve_index
from whimbrel.wire.output import Answer
from whimbrel.wire.service import Call


async def count_vectors(call: Call) -> Answer:
    """Counts the vectors of an index, or those that match a filter."""
    names = _resolve(call)
    count = await call.service.engine.count_vectors(*names, condition=call.input.get("filter"))
    return CountVectorsOutput(count)


async def get_index_statistics(call: Call) -> Answer:
    """Tells how an index is stored."""
    bucket_name, index_name = _resolve(call)
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


def _resolve(call: Call) -> tuple[str, str]:
    return resolve_index(call.input, account_id=call.service.arns.account_id)
