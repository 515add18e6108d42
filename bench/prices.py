"""Published prices, and what a month of work costs by them: constants and arithmetic, nothing is measured here.

All in US dollars, on demand, region us-east-1, without taxes, free tiers and commitments; decimal units, as bills have
them. Look them up again before relying on them.

| what | page | as of |
|---|---|---|
| S3 Standard, S3 Vectors | https://aws.amazon.com/s3/pricing/ | 2026-09-28 |
| EC2, Linux | https://aws.amazon.com/ec2/pricing/on-demand/ | 2026-06-17 |
| EBS gp3 | https://aws.amazon.com/ebs/pricing/ | 2026-06-17 |
"""

from dataclasses import dataclass

GB = 10**9
TB = 10**12
MONTH_HOURS = 730

# S3 Standard: the first 50 TB; transfer to an instance of the same region is free, and so is DELETE.
S3_GB_MONTH = 0.023
S3_WRITE_CLASS = 0.005 / 1000  # PUT, COPY, POST, LIST
S3_READ_CLASS = 0.0004 / 1000  # GET, HEAD and the others
WRITE_CLASS = ("put", "list", "post")
READ_CLASS = ("get", "head")

# Amazon S3 Vectors.
VECTORS_GB_MONTH = 0.06
VECTORS_PUT_GB = 0.20
VECTORS_PUT_BYTES_MIN = 128 * 1024
VECTORS_QUERY = 0.0025 / 1000
# Price of each TB that a query processes, by how many vectors of the index come before: 100,000, 10 million, the rest.
VECTORS_TB_TIERS = ((100_000, 0.004), (10_000_000, 0.002), (None, 0.0004))


@dataclass(frozen=True, slots=True)
class Machine:
    """A rented machine.

    Attributes:
        name: what it is called.
        processors: virtual processors.
        memory_gib: memory.
        hour: price of an hour.
        disk_gb: of a gp3 volume beside it.
    """

    name: str
    processors: int
    memory_gib: int
    hour: float
    disk_gb: int

    @property
    def month(self) -> float:
        """Price of a month, the volume included."""
        return self.hour * MONTH_HOURS + self.disk_gb * EBS_GB_MONTH


EBS_GB_MONTH = 0.08
SMALL = Machine("t4g.small", 2, 2, 0.0168, 20)
LARGE = Machine("m7g.large", 2, 8, 0.0816, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A month of work on one index.

    Attributes:
        vector_count: vectors stored, all of them written in that month, once.
        dimension: of each.
        other_bytes: of key and filterable metadata, each vector.
        query_count: queries.
        batch_count: vectors a put.
    """

    vector_count: int
    dimension: int
    other_bytes: int
    query_count: int
    batch_count: int = 500

    @property
    def vector_bytes(self) -> int:
        """Logical bytes of one vector."""
        return 4 * self.dimension + self.other_bytes


def price_requests(counts: dict[str, float]) -> float:
    """Returns what requests to S3 cost, by class as `bench.relay` counts them."""
    writes = sum(counts.get(name, 0) for name in WRITE_CLASS)
    reads = sum(counts.get(name, 0) for name in READ_CLASS)
    return writes * S3_WRITE_CLASS + reads * S3_READ_CLASS


def price_storage(byte_count: float) -> float:
    """Returns what bytes in S3 Standard cost a month."""
    return byte_count / GB * S3_GB_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a month costs, in parts."""

    storage: float
    writes: float
    queries: float
    machine: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.storage + self.writes + self.queries + self.machine


def price_s3_vectors(work: Workload) -> Bill:
    """Returns what Amazon S3 Vectors charges for a workload, by its published formula.

    A query processes vectors, keys and filterable metadata of the whole index, whatever topK and filter are. What it
    returns is free up to 512 KB a query.
    """
    stored = work.vector_count * work.vector_bytes
    put_bytes = max(work.batch_count * work.vector_bytes, VECTORS_PUT_BYTES_MIN)
    put_count = work.vector_count / work.batch_count
    processed, counted = 0.0, 0
    for limit, price in VECTORS_TB_TIERS:
        end = work.vector_count if limit is None else min(limit, work.vector_count)
        processed += max(end - counted, 0) * work.vector_bytes / TB * price
        counted = max(end, counted)
    return Bill(
        storage=stored / GB * VECTORS_GB_MONTH,
        writes=put_count * put_bytes / GB * VECTORS_PUT_GB,
        queries=work.query_count * (VECTORS_QUERY + processed),
    )
