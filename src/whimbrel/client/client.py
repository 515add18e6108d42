"""A client of Whimbrel: the methods, results, paginators and exceptions of boto3's `s3vectors` client.

Over whichever transport it is given. Safe to use from any number of threads.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace, TracebackType
from typing import Any, Final, NoReturn, Self

from whimbrel.client.batches import BatchOptions, PutProgress, put_in_batches
from whimbrel.client.exceptions import (
    PAGINATOR_NAME,
    ErrorClasses,
    make_library_error,
    make_service_error,
)
from whimbrel.client.methods import Methods
from whimbrel.client.operations import METHOD_NAMES, OPERATIONS
from whimbrel.client.pages import Paginator, find_paging
from whimbrel.client.parameters import check_parameters
from whimbrel.client.replies import (
    Conversion,
    conversion_of,
    make_metadata,
    make_response,
    parse_body,
)
from whimbrel.client.requests import build_request
from whimbrel.client.retrying import RetryPolicy
from whimbrel.client.transport import Reply, Request, Transport, TransportError
from whimbrel.kernel.strict_json import ScanError
from whimbrel.wire.errors import answer_error
from whimbrel.wire.exchange import encode_error
from whimbrel.wire.input import explain_scan_error
from whimbrel.wire.model import API_VERSION
from whimbrel.wire.shape import Operation

SERVICE: Final = "s3vectors"


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """What `client.meta.service_model` tells of the service."""

    service_name: str = SERVICE
    api_version: str = API_VERSION
    signing_name: str = SERVICE
    operation_names: tuple[str, ...] = tuple(OPERATIONS)


@dataclass(frozen=True, slots=True)
class ClientMeta:
    """What `client.meta` tells of a client.

    Attributes:
        endpoint_url: a server's address, or the store's URL.
        region_name: that stands in ARNs.
        service_model: what the service is called and can do.
        config: `region_name` again, where boto3 has it too.
        method_to_api_mapping: operations by method.
        partition: of AWS.
    """

    endpoint_url: str
    region_name: str
    service_model: ServiceModel = field(default_factory=ServiceModel)
    config: SimpleNamespace = field(default_factory=SimpleNamespace)
    method_to_api_mapping: dict[str, str] = field(default_factory=lambda: dict(METHOD_NAMES))
    partition: str = "aws"


class Client(Methods):
    """A client, made by `whimbrel.connect`; a context manager that closes itself.

    Attributes:
        meta: where it is connected to, and what it can do.
        exceptions: the classes of what the service refuses.
        waiter_names: always empty, as boto3's.
    """

    def __init__(self, transport: Transport, retries: RetryPolicy, *, as_arrays: bool) -> None:
        """Makes a client.

        Args:
            transport: carries its requests; the client's own from now on.
            retries: when calls are made again.
            as_arrays: whether vectors of answers are float32 arrays, not lists of floats.
        """
        self._transport = transport
        self._retries = retries
        self._as_arrays = as_arrays
        self._closing = threading.Event()
        self._conversions: dict[str, Conversion | None] = {
            name: conversion_of(operation.output) for name, operation in OPERATIONS.items()
        }
        region = transport.region_name
        self.meta = ClientMeta(
            transport.endpoint_url, region, config=SimpleNamespace(region_name=region)
        )
        self.exceptions = ErrorClasses()
        self.waiter_names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<whimbrel client of {self.meta.endpoint_url}>"

    def close(self) -> None:
        """Lets go of connections, or of the store; calls that wait to be made again fail."""
        self._closing.set()
        self._transport.close()

    def can_paginate(self, operation_name: str) -> bool:
        """Whether a method has a paginator.

        Args:
            operation_name: the method's name, such as `list_vectors`.
        """
        name = METHOD_NAMES.get(operation_name)
        return name is not None and find_paging(OPERATIONS[name]) is not None

    def get_paginator(self, operation_name: str) -> Paginator:
        """Returns the paginator of a method.

        Args:
            operation_name: the method's name, such as `list_vectors`.

        Raises:
            OperationNotPageableError: it has none; botocore's where that is installed.
        """
        name = METHOD_NAMES.get(operation_name)
        paging = find_paging(OPERATIONS[name]) if name is not None else None
        if paging is None:
            raise make_library_error(PAGINATOR_NAME, operation_name=operation_name)
        return Paginator(getattr(self, operation_name), paging)

    def put_vectors_in_batches(
        self,
        *,
        vectors: Iterable[Mapping[str, Any]],
        worker_count: int = 4,
        progress: Callable[[PutProgress], None] | None = None,
        **index: str,
    ) -> PutProgress:
        """Puts any number of vectors, several batches at a time, and returns when all are durable.

        A store that must catch up first is waited for, up to about two minutes for a batch.

        Args:
            vectors: any iterable of what `put_vectors` takes; read only as far ahead as batches are under way.
            worker_count: batches under way at a time, at least 1.
            progress: called after each batch, on the caller's thread.
            **index: `vectorBucketName` and `indexName`, or `indexArn`.

        Returns:
            What was written.

        Raises:
            ClientError: of the first batch that failed, with an attribute `progress` that says what was written. No
                batch is begun after it; those under way are waited for. So is whatever the iterable raises.
        """
        options = BatchOptions(worker_count=worker_count, progress=progress)
        retries = self._retries.for_bulk()

        def put(parameters: dict[str, Any]) -> None:
            self._send(self._request(OPERATIONS["PutVectors"], parameters), retries)

        return put_in_batches(put, vectors, index=index, options=options)

    def _call(self, operation: Operation, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._send(self._request(operation, parameters), self._retries)

    def _request(self, operation: Operation, parameters: dict[str, Any]) -> Request:
        check_parameters(operation.input, parameters)
        try:
            return build_request(operation, parameters)
        except ScanError as error:
            self._refuse(operation, _reply_to_unsendable(operation, error), attempt_count=1)

    def _send(self, request: Request, retries: RetryPolicy) -> dict[str, Any]:
        operation = request.operation
        for attempt_count in count(1):
            try:
                reply = self._transport.send(request, as_arrays=self._as_arrays)
            except TransportError as error:
                if not retries.covers_failure(operation, error, attempt_count=attempt_count):
                    raise make_library_error(
                        error.name, endpoint_url=error.endpoint_url, error=error.cause
                    ) from error.cause
            else:
                if not reply.code:
                    convert = self._conversions[operation.name]
                    return make_response(convert, reply, retry_count=attempt_count - 1)
                if not retries.covers_reply(operation, reply, attempt_count=attempt_count):
                    self._refuse(operation, reply, attempt_count=attempt_count)
            # Ends at once when the client is closed meanwhile; the transport then says so.
            self._closing.wait(retries.delay_s(attempt_count))
        raise AssertionError

    def _refuse(self, operation: Operation, reply: Reply, *, attempt_count: int) -> NoReturn:
        """Raises what a reply refuses."""
        members = dict(reply.members)
        message = members.get("message", members.get("Message", ""))
        response = {
            "ResponseMetadata": make_metadata(reply, retry_count=attempt_count - 1),
            **members,
        }
        raise make_service_error(
            reply.code, message, operation=operation.name, response=response
        ) from reply.cause


def _reply_to_unsendable(operation: Operation, error: ScanError) -> Reply:
    """Returns what a server would say to parameters that no JSON body can hold."""
    refusal = answer_error(explain_scan_error(operation, error))
    members = parse_body(encode_error(refusal))
    return Reply(refusal.status, "", members, refusal.code, cause=error)
