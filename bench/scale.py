"""How much a run measures: enough for figures, or just enough to see that everything still works."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes and repetitions of one run.

    Attributes:
        name: `full` or `smoke`.
        put_dimensions: dimensions that puts are timed at.
        small_put_count: timed puts of one vector.
        large_put_count: timed puts of 500 vectors.
        client_batch_count: batches of 500 vectors that each client puts; boto3 an eighth of them.
        query_row_counts: sizes of the indexes that queries are timed on, ascending.
        query_count: timed queries for each.
        exact_row_count: rows of the comparison with FAISS.
        exact_query_count: timed queries of it.
        index_count_few, index_count_many: indexes in the bucket before and after the crowd comes.
        start_count: timed starts of a server.
        idle_s: seconds before the memory of an idle server is read.
        flush_age_s: how long the indexer lets a small tail wait, seconds; the default in full runs.
        builds_wheel: whether the package is built to weigh it, which takes a compiler a minute or two.
        remote_row_count: rows of each index that cold queries over a far store are timed on.
        remote_start_count: timed starts of a server over that store, and cold queries.
        remote_query_count: timed warm queries and puts after each start.
        price_row_count, price_dimension: of the index whose writing, storage and queries are priced.
        price_small_batch_count: batches of ten vectors written for their price.
        price_index_count, price_idle_row_count: indexes that are queried once each, and their rows.
        price_query_count: warm queries that are priced.
        price_idle_s: how long an idle server is watched, seconds.
        serving_row_count: vectors of the index that is put under load.
        serving_query_count: different queries asked of it.
        serving_targets: names of the servers to put under load; empty for all.
        worker_count: processes that Whimbrel serves with.
        recall_target: what its queries of large indexes aim at; 0 leaves it to the default.
        load_s: how long each load lasts.
        steady_s: how long each stream of writes lasts.
        ingest_body_count: different batches of 500 that are written.
        bulk_row_counts: rows of the files that are imported in bulk.
        idle_connection_count: connections that say nothing.
        quiet_s: a server whose folder has not changed for so long has nothing left to flush.
    """

    name: str
    put_dimensions: tuple[int, ...] = (384, 1536)
    small_put_count: int = 300
    large_put_count: int = 40
    client_batch_count: int = 80
    query_row_counts: tuple[int, ...] = (1_000, 10_000, 100_000)
    query_count: int = 200
    exact_row_count: int = 100_000
    exact_query_count: int = 100
    index_count_few: int = 10
    index_count_many: int = 10_000
    start_count: int = 5
    idle_s: float = 10.0
    remote_row_count: int = 20_000
    remote_start_count: int = 5
    remote_query_count: int = 5
    price_row_count: int = 50_000
    price_dimension: int = 768
    price_small_batch_count: int = 200
    price_index_count: int = 20
    price_idle_row_count: int = 500
    price_query_count: int = 500
    price_idle_s: float = 120.0
    flush_age_s: float = 5.0
    serving_row_count: int = 100_000
    serving_query_count: int = 1_000
    serving_targets: tuple[str, ...] = ()
    worker_count: int = 1
    recall_target: float = 0.0
    load_s: float = 10.0
    steady_s: float = 30.0
    ingest_body_count: int = 60
    idle_connection_count: int = 1_000
    quiet_s: float = 8.0
    bulk_row_counts: tuple[int, ...] = (100_000, 1_000_000)
    builds_wheel: bool = True

    def as_settings(self) -> dict[str, Any]:
        """Returns all of it, for the report."""
        return dataclasses.asdict(self)


FULL = Scale(name="full")
SMOKE = Scale(
    name="smoke",
    put_dimensions=(384,),
    small_put_count=10,
    large_put_count=2,
    client_batch_count=8,
    query_row_counts=(1_000,),
    query_count=10,
    exact_row_count=2_000,
    exact_query_count=5,
    index_count_many=30,
    start_count=1,
    idle_s=1.0,
    remote_row_count=1_000,
    remote_start_count=1,
    remote_query_count=2,
    price_row_count=1_000,
    price_dimension=64,
    price_small_batch_count=3,
    price_index_count=2,
    price_idle_row_count=10,
    price_query_count=5,
    price_idle_s=2.0,
    flush_age_s=0.2,
    quiet_s=1.5,
    serving_row_count=2_000,
    serving_query_count=20,
    load_s=0.5,
    steady_s=1.0,
    ingest_body_count=2,
    idle_connection_count=20,
    bulk_row_counts=(2_000,),
    builds_wheel=False,
)
