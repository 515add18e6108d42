"""What handlers work with: the engine they call, and the one request they answer."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from whimbrel.auth import Principal
from whimbrel.core.compute import Compute
from whimbrel.embeddings import EmbeddingModels
from whimbrel.engine.access import AccessFacts
from whimbrel.engine.erase import Erased
from whimbrel.engine.find import FindRequest
from whimbrel.engine.forks import Source
from whimbrel.engine.model import (
    Blobs,
    BucketInfo,
    IndexConfig,
    IndexInfo,
    ListRequest,
    NamePage,
    PutBatch,
    QueryPage,
    QueryRequest,
    SnapshotInfo,
    SnapshotPage,
    VectorPage,
)
from whimbrel.engine.self_query import RecallMeasured
from whimbrel.engine.statistics import IndexStatistics
from whimbrel.engine.text.field import TextField
from whimbrel.engine.update import UpdateRequest
from whimbrel.engine.warm import Warmed, WarmRequest
from whimbrel.identity import IdentityService
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.wire.access import AccessControl
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.rate_limits import RateLimits


class Engine(Protocol):
    """What the wire asks of the engine. Every method raises the classes of `core.errors`."""

    async def create_bucket(
        self, name: str, *, tags: Mapping[str, str], kms_key_arn: str = ""
    ) -> BucketInfo:
        """Creates a vector bucket."""

    async def get_bucket(self, name: str) -> BucketInfo:
        """Describes a vector bucket."""

    async def delete_bucket(self, name: str) -> None:
        """Deletes an empty vector bucket."""

    async def list_buckets(
        self, *, prefix: str, page_size: int, page_token: str | None, principal: str
    ) -> NamePage:
        """Lists vector buckets in order of name."""

    async def read_access(self, bucket_name: str, index_name: str | None) -> AccessFacts:
        """Returns what decisions on access need to know of a vector bucket, and of an index in it."""

    async def put_bucket_policy(self, name: str, policy: str) -> None:
        """Sets a vector bucket's policy."""

    async def get_bucket_policy(self, name: str) -> str:
        """Returns a vector bucket's policy as it was given."""

    async def delete_bucket_policy(self, name: str) -> None:
        """Removes a vector bucket's policy."""

    async def create_index(
        self,
        bucket_name: str,
        name: str,
        config: IndexConfig,
        *,
        tags: Mapping[str, str],
        text_fields: tuple[TextField, ...] = (),
        kms_key_arn: str | None = None,
    ) -> IndexInfo:
        """Creates an index."""

    async def change_text_fields(
        self,
        bucket_name: str,
        name: str,
        change: Callable[[tuple[TextField, ...]], tuple[TextField, ...]],
    ) -> None:
        """Changes which metadata keys of an index are searchable as text."""

    async def get_index(self, bucket_name: str, name: str) -> IndexInfo:
        """Describes an index."""

    async def delete_index(self, bucket_name: str, name: str) -> None:
        """Deletes an index with all its vectors."""

    async def list_indexes(
        self,
        bucket_name: str,
        *,
        prefix: str,
        page_size: int,
        page_token: str | None,
        principal: str,
    ) -> NamePage:
        """Lists the indexes of a vector bucket in order of name."""

    async def get_tags(self, bucket_name: str, index_name: str | None) -> Mapping[str, str]:
        """Returns the tags of a vector bucket or, with an index name, of an index."""

    async def tag(self, bucket_name: str, index_name: str | None, tags: Mapping[str, str]) -> None:
        """Adds or replaces tags."""

    async def untag(self, bucket_name: str, index_name: str | None, keys: list[str]) -> None:
        """Removes tags; those that are not there are fine."""

    async def put_vectors(self, bucket_name: str, index_name: str, batch: PutBatch) -> None:
        """Writes records; returns when they are durable."""

    async def delete_vectors(self, bucket_name: str, index_name: str, keys: Blobs) -> None:
        """Deletes records; returns when that is durable."""

    async def get_vectors(
        self,
        bucket_name: str,
        index_name: str,
        keys: Blobs,
        *,
        return_vectors: bool,
        return_metadata: bool,
    ) -> VectorPage:
        """Returns the records of these keys that exist."""

    async def list_vectors(
        self, bucket_name: str, index_name: str, request: ListRequest
    ) -> VectorPage:
        """Returns a page of an index's records."""

    async def query(self, bucket_name: str, index_name: str, request: QueryRequest) -> QueryPage:
        """Returns a page of the nearest records."""

    async def count_vectors(
        self, bucket_name: str, index_name: str, *, condition: Any | None = None
    ) -> int:
        """Counts records, all or those that match a filter."""

    async def fork_index(
        self, source: Source, bucket_name: str, name: str, *, tags: Mapping[str, str]
    ) -> None:
        """Creates an index with the content of another one or of a snapshot."""

    async def create_snapshot(self, bucket_name: str, index_name: str, name: str) -> SnapshotInfo:
        """Keeps an index as it is now under a name."""

    async def get_snapshot(self, bucket_name: str, index_name: str, name: str) -> SnapshotInfo:
        """Describes a snapshot."""

    async def list_snapshots(
        self,
        bucket_name: str,
        index_name: str | None,
        *,
        page_size: int,
        page_token: str | None,
        principal: str,
    ) -> SnapshotPage:
        """Lists the snapshots of an index, or of a vector bucket, in order of name."""

    async def delete_snapshot(self, bucket_name: str, index_name: str, name: str) -> None:
        """Deletes a snapshot."""

    async def restore_index(self, bucket_name: str, index_name: str, name: str) -> None:
        """Makes an index what it was at a snapshot."""

    async def find_vectors(
        self, bucket_name: str, index_name: str, request: FindRequest
    ) -> VectorPage:
        """Returns a page of the records with a prefix, or that match a filter, in order of key."""

    async def update_metadata(
        self, bucket_name: str, index_name: str, request: UpdateRequest
    ) -> list[bytes]:
        """Changes the metadata of records; returns the keys that do not exist."""

    async def delete_matching(
        self, bucket_name: str, index_name: str, *, condition: Any, count_max: int
    ) -> Erased:
        """Deletes records that match a filter."""

    async def get_statistics(self, bucket_name: str, index_name: str) -> IndexStatistics:
        """Tells how an index is stored."""

    async def measure_recall(
        self, bucket_name: str, index_name: str, *, counts: Sequence[int], query_count: int
    ) -> RecallMeasured:
        """Measures what queries find of what there is."""

    async def warm_index(self, bucket_name: str, index_name: str, request: WarmRequest) -> Warmed:
        """Fetches what queries of an index read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every request shares.

    Attributes:
        engine: does the work.
        access: says who may ask for it.
        embeddings: the models that embed.
        arns: writes our ARNs and knows our account.
        compute: where work over about a millisecond runs.
        log: the project's logger, for what an operator should know.
        local_keys: the keys of the local key store; None where there is no master key to keep them under.
        identity: who may sign, and what changes that; None where everybody is taken for the owner.
        limits: how much may be asked per second; None limits nothing.
    """

    engine: Engine
    access: AccessControl
    embeddings: EmbeddingModels
    arns: ArnFormat
    compute: Compute
    log: logging.Logger
    local_keys: LocalKeyService | None = None
    identity: IdentityService | None = None
    limits: RateLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to one operation, authenticated, decoded and checked against the service model.

    Attributes:
        input: the request's members; for PutVectors without `vectors`.
        service: what every request shares.
        principal: who asks.
        batch: the vectors of PutVectors.
        explain: whether somebody who may be told asks what a query takes.
    """

    input: dict[str, Any]
    service: Service
    principal: Principal
    batch: PutBatch | None = None
    explain: bool = False
