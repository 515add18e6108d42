"""`extend`: a boto3 client of S3 Vectors that has our extensions as methods.

botocore has no public way to add operations to a client. What is used of its inside has been the same for years, and
the tests call the real thing; should it change, `extend` is what fails, and no client.
"""

from importlib import import_module
from typing import Any, TypeVar

from whimbrel.sdk.service_model import describe_pagination, extend_description
from whimbrel.wire.extension_model import EXTENSIONS

SERVICE = "s3vectors"
NOT_S3VECTORS = 'extend takes a client made by boto3.client("s3vectors")'

C = TypeVar("C")


def extend(client: C) -> C:
    """Returns a client like this one, with a method for each extension, and a paginator where answers have pages.

        import boto3, whimbrel

        client = whimbrel.extend(boto3.client("s3vectors"))
        client.count_vectors(vectorBucketName="birds", indexName="waders")

    Both clients share connections, credentials, configuration, event handlers and exception classes; the one given is
    not changed.

    Args:
        client: a client of S3 Vectors, made by boto3 or botocore.

    Raises:
        TypeError: it is none.
    """
    meta: Any = getattr(client, "meta", None)
    model: Any = getattr(meta, "service_model", None)
    if model is None or model.service_name != SERVICE:
        raise TypeError(NOT_S3VECTORS)
    if EXTENSIONS.keys() <= set(model.operation_names):
        return client
    extended: C = _Extended(client).make()
    return extended


class _Extended:
    """The making of one client."""

    def __init__(self, client: Any) -> None:
        # Whoever has a client has botocore, which is no dependency of ours.
        xform_name = import_module("botocore").xform_name
        description = client.meta.service_model._service_description  # noqa: SLF001 - see above
        self._client = client
        self._model = import_module("botocore.model").ServiceModel(
            extend_description(description), SERVICE
        )
        self._names = {xform_name(name): name for name in EXTENSIONS}

    def make(self) -> Any:
        """Returns the client."""
        client, kind = self._client, type(self._client)
        methods = {name: self._make_method(name) for name in self._names}
        operations = {**client.meta.method_to_api_mapping, **self._names}
        members = {**methods, "_PY_TO_OP_NAME": operations}
        extended: Any = object.__new__(type(kind.__name__, (kind,), members))
        vars(extended).update(vars(client))
        extended.meta = self._make_meta(operations)
        extended._cache = {**client._cache, "page_config": self._make_pages()}  # noqa: SLF001
        return extended

    def _make_meta(self, operations: dict[str, str]) -> Any:
        meta = self._client.meta
        return import_module("botocore.client").ClientMeta(
            meta.events, meta.config, meta.endpoint_url, self._model, operations, meta.partition
        )

    def _make_pages(self) -> dict[str, Any]:
        self._client.can_paginate("list_vectors")  # has the SDK load its own
        pages = {name: describe_pagination(extension) for name, extension in EXTENSIONS.items()}
        own = {name: described for name, described in pages.items() if described is not None}
        return {**self._client._cache["page_config"], **own}  # noqa: SLF001

    def _make_method(self, name: str) -> Any:
        operation_name = self._names[name]

        def method(self: Any, *args: Any, **parameters: Any) -> Any:
            if args:
                raise TypeError(f"{name}() only accepts keyword arguments.")
            return self._make_api_call(operation_name, parameters)

        operation = self._model.operation_model(operation_name)
        method.__name__ = name
        method.__doc__ = import_module("botocore.docs.docstring").ClientMethodDocstring(
            operation_model=operation,
            method_name=operation_name,
            event_emitter=self._client.meta.events,
            method_description=operation.documentation,
            example_prefix=f"response = client.{name}",
            include_signature=False,
        )
        return method
