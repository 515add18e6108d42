"""One run of the benchmark with a filter by label, which its command offers for data sets of its own only."""

import json
import sys
import time

from vectordb_bench.backend.clients import DB
from vectordb_bench.backend.clients.api import MetricType
from vectordb_bench.backend.clients.s3_vectors.config import S3VectorsConfig, S3VectorsIndexConfig
from vectordb_bench.interface import benchmark_runner
from vectordb_bench.models import (
    CaseConfig,
    CaseType,
    ConcurrencySearchConfig,
    TaskConfig,
    TaskStage,
)

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    task = TaskConfig(
        db=DB.S3Vectors,
        db_config=S3VectorsConfig(**given["db"]),
        db_case_config=S3VectorsIndexConfig(metric_type=MetricType.L2),
        case_config=CaseConfig(
            case_id=CaseType.PerformanceCustomDataset,
            custom_case=given["case"],
            k=given["k"],
            concurrency_search_config=ConcurrencySearchConfig(
                num_concurrency=[1], concurrency_duration=1
            ),
        ),
        stages=[TaskStage.DROP_OLD, TaskStage.LOAD, TaskStage.SEARCH_SERIAL],
        load_concurrency=1,
    )
    benchmark_runner.run([task], "filtered")
    while benchmark_runner.has_running():
        time.sleep(0.1)
    sys.exit(benchmark_runner.latest_error or 0)
