"""A model behind any server that speaks OpenAI's embeddings API: Ollama, vLLM, Text Embeddings Inference, OpenAI.

1. The key goes to the configured address alone: redirects are not followed, and it stands in no message.
2. Nothing is believed unread: an answer is bounded in size, and holds one finite vector for every text or is an error.
3. When whoever asked is gone the connection is closed, so that the server can stop as well.
4. What may pass by itself is tried again: a broken connection, 502 and 503. What took too long is not.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from whimbrel.core.clock import Clock
from whimbrel.core.errors import (
    ModelError,
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
)
from whimbrel.core.threads import ThreadPool
from whimbrel.embeddings.catalog import TEXT
from whimbrel.embeddings.configuration import OpenAIOptions
from whimbrel.embeddings.model import Embedded, Item, Purpose, Text
from whimbrel.embeddings.providers.naming import shown_name
from whimbrel.embeddings.providers.openai_answers import read_answer, read_complaint

RETRY_AFTER_S: Final = (0.2, 0.8)
RETRIED_STATUSES: Final = frozenset({502, 503})
REFUSED_STATUSES: Final = frozenset({401, 403})
THROTTLED_STATUS: Final = 429
OK_STATUS: Final = 200
ERROR_STATUS_MIN: Final = 400
# A number takes up to 25 bytes as text; models have up to some thousand dimensions.
ANSWER_BYTES_MAX_PER_ITEM: Final = 256 * 1024
ANSWER_BYTES_MAX_BESIDE: Final = 64 * 1024
COMPLAINT_BYTES_MAX: Final = 16 * 1024
CHUNK_BYTES: Final = 64 * 1024


class _ConnectionLostError(Exception):
    """The server hung up before it had answered."""


class OpenAIProvider:
    """One model of one server."""

    modalities = TEXT
    is_remote = True

    def __init__(self, name: str, options: OpenAIOptions, *, api_key: str, clock: Clock) -> None:
        """Connects to nothing yet.

        Args:
            name: of the provider in the configuration.
            options: where the server is and how it is asked.
            api_key: empty sends none.
            clock: for waits between tries.
        """
        self.name = shown_name(name, options.model)
        self.batch_count_max = options.batch_count_max
        self._options = options
        self._url = options.url.rstrip("/") + "/embeddings"
        self._api_key = api_key
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        # Numbers are read aside of the event loop: a batch has some hundred thousand of them.
        self._reader = ThreadPool(1, "embedding answers")

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Embedded:
        """Returns the vectors of some texts, of the dimension that the server gives them."""
        return await self._embed(items, purpose, dimension=None)

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
        self._reader.shutdown(wait=False)

    async def _embed(
        self, items: Sequence[Item], purpose: Purpose, *, dimension: int | None
    ) -> Embedded:
        options = self._options
        is_query = purpose is Purpose.QUERY
        prefix = options.query_prefix if is_query else options.document_prefix
        texts = [prefix + item.text for item in items if isinstance(item, Text)]
        assert len(texts) == len(items)
        request: dict[str, object] = {
            "model": options.model,
            "input": texts,
            "encoding_format": "float",
        }
        if dimension is not None:
            request["dimensions"] = dimension
        answer = await self._ask(msgspec.json.encode(request), item_count=len(texts))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reader, read_answer, answer, texts)
        except ValueError as error:
            raise ModelFailedError(
                f"{self.name} answered with no embeddings: {error}", status=OK_STATUS
            ) from error

    async def _ask(self, body: bytes, *, item_count: int) -> bytes:
        """Returns the body of the answer to a request, tried again where that may help."""
        for wait_s in RETRY_AFTER_S:
            try:
                status, answer = await self._ask_once(body, item_count=item_count)
            except _ConnectionLostError:
                status = 0
            if status and status not in RETRIED_STATUSES:
                return self._checked(status, answer)
            await self._clock.sleep(wait_s)
        try:
            status, answer = await self._ask_once(body, item_count=item_count)
        except _ConnectionLostError as error:
            raise ModelFailedError(f"{self.name} closed the connection: {error}") from error
        return self._checked(status, answer)

    async def _ask_once(self, body: bytes, *, item_count: int) -> tuple[int, bytes]:
        answer_limit = ANSWER_BYTES_MAX_BESIDE + item_count * ANSWER_BYTES_MAX_PER_ITEM
        try:
            async with self._open_session().post(
                self._url, data=body, allow_redirects=False
            ) as response:
                limit = answer_limit if response.status == OK_STATUS else COMPLAINT_BYTES_MAX
                answer = await _read_start(response, limit + 1)
        except TimeoutError as error:
            message = f"{self.name} did not answer within {self._options.timeout_s:g} s"
            raise ModelTimeoutError(message) from error
        except aiohttp.ClientConnectorError as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ModelNotReadyError(f"{self.name} cannot be reached: {reason}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise _ConnectionLostError(type(error).__name__) from error
        except aiohttp.ClientError as error:
            message = f"{self.name} answered with no HTTP: {type(error).__name__}"
            raise ModelFailedError(message) from error
        if response.status == OK_STATUS and len(answer) > limit:
            message = f"{self.name} answered with more than {limit} bytes"
            raise ModelFailedError(message, status=response.status)
        return response.status, answer

    def _open_session(self) -> aiohttp.ClientSession:
        """Returns the session; it belongs to the event loop, so it is made there and not where providers are opened."""
        if self._session is None:
            # No compression: a small answer could otherwise unfold into a large one.
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._options.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _checked(self, status: int, answer: bytes) -> bytes:
        if status == OK_STATUS:
            return answer
        raise self._error_of(status, answer)

    def _error_of(self, status: int, answer: bytes) -> ModelError:
        if status in REFUSED_STATUSES:
            # What such answers say often holds the key, or most of it.
            message = f"{self.name} refused the key that the server is configured with ({status})"
            return ModelFailedError(message, status=status)
        if status < ERROR_STATUS_MIN:
            message = f"{self.name} answered {status}, and redirects are not followed"
            return ModelFailedError(message, status=status)
        complaint = read_complaint(answer, secret=self._api_key)
        message = f"{self.name} answered {status}" + (f": {complaint}" if complaint else "")
        if status == THROTTLED_STATUS:
            return ModelThrottledError(message)
        if status in RETRIED_STATUSES:
            return ModelNotReadyError(message)
        return ModelFailedError(message, status=status)


class ShorteningOpenAIProvider(OpenAIProvider):
    """One model of one server, which is told the dimension that its vectors are to have."""

    async def embed_shortened(
        self, items: Sequence[Item], purpose: Purpose, dimension: int
    ) -> Embedded:
        """Returns the vectors of some texts, of the dimension that is asked for."""
        return await self._embed(items, purpose, dimension=dimension)


async def _read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Returns the first bytes of an answer, at most `limit`."""
    answer = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        answer += chunk[: limit - len(answer)]
        if len(answer) == limit:
            break
    return bytes(answer)
