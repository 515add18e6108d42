"""Paginators, as boto3 has them: `client.get_paginator("list_vectors").paginate(...)`.

`PaginationConfig` takes `MaxItems`, `PageSize` and `StartingToken`. A listing that `MaxItems` cut says in `NextToken`
of `build_full_result`, and in `resume_token`, where to go on; such a token is in the form of botocore's.
"""

import base64
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from whimbrel.wire.shape import ListShape, Operation

NEXT_TOKEN: Final = "nextToken"
PAGE_SIZE: Final = "maxResults"
TRUNCATED: Final = "boto_truncate_amount"

Method = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Paging:
    """How an operation is paged.

    Attributes:
        result: the member that holds a page's items.
        has_size: whether the size of pages can be asked for.
    """

    result: str
    has_size: bool


def find_paging(operation: Operation) -> Paging | None:
    """Returns how an operation is paged; None where its answer is whole."""
    if NEXT_TOKEN not in operation.input.members or NEXT_TOKEN not in operation.output.members:
        return None
    lists = [
        name
        for name, member in operation.output.members.items()
        if isinstance(member.shape, ListShape)
    ]
    return Paging(lists[0], PAGE_SIZE in operation.input.members) if len(lists) == 1 else None


class Paginator:
    """Calls an operation page by page."""

    def __init__(self, method: Method, paging: Paging) -> None:
        self._method = method
        self._paging = paging

    @property
    def result_keys(self) -> list[str]:
        """The members that hold the items."""
        return [self._paging.result]

    def paginate(
        self,
        *,
        PaginationConfig: Mapping[str, Any] | None = None,  # noqa: N803 - boto3's name
        **parameters: Any,
    ) -> "PageIterator":
        """Returns an iterable of pages; nothing is asked for before it is iterated."""
        config = PaginationConfig or {}
        size = config.get("PageSize")
        if size is not None and self._paging.has_size:
            parameters = {**parameters, PAGE_SIZE: int(size)}
        token = config.get("StartingToken") or parameters.pop(NEXT_TOKEN, None)
        most = config.get("MaxItems")
        return PageIterator(
            self._method,
            self._paging.result,
            parameters,
            items_max=None if most is None else int(most),
            starting_token=token,
        )


class PageIterator:
    """The pages of one listing; can be iterated any number of times.

    Attributes:
        resume_token: where a listing that `MaxItems` cut goes on, once it has been iterated; None where it ended.
    """

    def __init__(
        self,
        method: Method,
        result: str,
        parameters: Mapping[str, Any],
        *,
        items_max: int | None,
        starting_token: str | None,
    ) -> None:
        self._method = method
        self._result = result
        self._parameters = parameters
        self._items_max = items_max
        self._starting_token = starting_token
        self.resume_token: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        token, skipped_count = _decode_token(self._starting_token)
        left = self._items_max
        self.resume_token = None
        while True:
            arguments = {**self._parameters, **({NEXT_TOKEN: token} if token else {})}
            page = self._method(**arguments)
            items = page.get(self._result, [])[skipped_count:]
            if left is not None and len(items) > left:
                self.resume_token = _encode_token(token, skipped_count + left)
                yield {**page, self._result: items[:left]}
                return
            yield {**page, self._result: items} if skipped_count else page
            following = page.get(NEXT_TOKEN)
            if following is None:
                return
            if following == token:
                raise ValueError(f"the same next token was received twice: {token}")
            token, skipped_count = following, 0
            if left is not None:
                left -= len(items)
                if left == 0:
                    self.resume_token = _encode_token(token, 0)
                    return

    def build_full_result(self) -> dict[str, Any]:
        """Returns all items of all pages in one answer, and `NextToken` where `MaxItems` cut it."""
        whole: dict[str, Any] = {self._result: []}
        for page in self:
            whole[self._result] += page.get(self._result, [])
            rest = {
                name: value
                for name, value in page.items()
                if name not in (self._result, NEXT_TOKEN, "ResponseMetadata")
            }
            whole = {**rest, **whole}
        if self.resume_token is not None:
            whole["NextToken"] = self.resume_token
        return whole

    def search(self, expression: str) -> Iterator[Any]:
        """Yields what a JMESPath expression finds in each page; takes the package jmespath, which boto3 brings.

        Raises:
            ImportError: there is none.
        """
        compiled = importlib.import_module("jmespath").compile(expression)
        for page in self:
            found = compiled.search(page)
            if isinstance(found, list):
                yield from found
            else:
                yield found


def _encode_token(token: str | None, skipped_count: int) -> str:
    parts: dict[str, Any] = {NEXT_TOKEN: token}
    if skipped_count:
        parts[TRUNCATED] = skipped_count
    return base64.b64encode(json.dumps(parts).encode()).decode()


def _decode_token(text: str | None) -> tuple[str | None, int]:
    """Returns the service's token, and how many items of its page were had; any other text is a service's token."""
    if text is None:
        return None, 0
    try:
        parts = json.loads(base64.b64decode(text, validate=True))
        return parts[NEXT_TOKEN], int(parts.get(TRUNCATED, 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return text, 0
