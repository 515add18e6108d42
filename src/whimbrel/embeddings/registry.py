"""The models of one server: who embeds for which id, opened when first asked for.

1. Nothing is imported, loaded or connected before a client asks for a model: a server that embeds nothing pays nothing.
2. An answer names the model that really embedded, whatever id the client wrote.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np

from whimbrel.core.compute import Compute
from whimbrel.core.errors import InvalidRequestError, ModelFailedError, UnknownModelError
from whimbrel.embeddings.batching import STOPPING_TEXT, Batcher
from whimbrel.embeddings.catalog import ModelEntry
from whimbrel.embeddings.model import Embedded, Item, Provider, Purpose
from whimbrel.embeddings.projection import project

UNKNOWN_MODEL_TEXT: Final = "The provided model identifier is invalid."
MIB: Final = 1024 * 1024
# What ids of inference profiles begin with.
GEOGRAPHIES: Final = frozenset({"us", "eu", "apac", "us-gov", "ca", "jp", "au", "global"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """An answer of Amazon Bedrock itself, as it came.

    Attributes:
        status: HTTP status.
        body: its bytes.
        headers: those that belong to the answer and not to the connection; names in lower case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class PassThrough(Protocol):
    """Hands requests on to Amazon Bedrock. For one event loop."""

    name: str

    async def invoke(self, model_id: str, body: bytes) -> Passed:
        """Returns what InvokeModel answers, errors of the model's included.

        Raises:
            ModelError: nothing was answered.
        """

    async def start_async_invoke(self, members: Mapping[str, object]) -> Mapping[str, object]:
        """Returns what StartAsyncInvoke answers."""

    async def get_async_invoke(self, invocation_arn: str) -> Mapping[str, object]:
        """Returns what GetAsyncInvoke answers."""

    async def close(self) -> None:
        """Lets go of what it holds."""


OpenProvider = Callable[[str], Provider | PassThrough]
"""Opens a provider by its name in the configuration; called once a name, on a thread."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """Bounds of what waits for one provider.

    Attributes:
        item_count_max: texts and images of all callers.
        bytes_max: bytes of them.
        batches_at_once: batches that a provider elsewhere is given at a time; one in this process is given one.
    """

    item_count_max: int = 4096
    bytes_max: int = 256 * MIB
    batches_at_once: int = 4


class EmbeddingModels:
    """Every model that clients may name. For one event loop."""

    def __init__(
        self,
        entries: Mapping[str, ModelEntry],
        open_provider: OpenProvider,
        limits: EmbeddingLimits,
        compute: Compute,
    ) -> None:
        """Opens nothing yet.

        Args:
            entries: the models by id.
            open_provider: opens a provider.
            limits: bounds of its queue.
            compute: opens providers aside of the event loop.
        """
        self._entries = dict(entries)
        self._open_provider = open_provider
        self._limits = limits
        self._compute = compute
        self._opening: dict[str, asyncio.Task[Batcher | PassThrough]] = {}

    @property
    def entries(self) -> list[ModelEntry]:
        """All models, in order of id."""
        return [self._entries[model_id] for model_id in sorted(self._entries)]

    def find(self, model_id: str) -> ModelEntry:
        """Returns the model of an id, which may also be an ARN or name a geography as inference profiles do.

        Raises:
            UnknownModelError: there is none.
        """
        entry = self._entries.get(model_id) or self._entries.get(_bare_id(model_id))
        if entry is None:
            raise UnknownModelError(UNKNOWN_MODEL_TEXT)
        return entry

    async def passes(self, entry: ModelEntry) -> PassThrough | None:
        """Returns who hands on the requests of a model as they are; None where it is answered here.

        Raises:
            ModelNotReadyError: the provider cannot be opened.
        """
        opened = await self._open(entry.provider)
        return None if isinstance(opened, Batcher) else opened

    async def embed(
        self,
        entry: ModelEntry,
        items: Sequence[Item],
        *,
        purpose: Purpose,
        dimension: int | None = None,
    ) -> tuple[Embedded, str]:
        """Embeds items of one modality.

        Args:
            entry: the model.
            items: at least one.
            purpose: what for.
            dimension: of the vectors; None takes the model's default, or the provider's own where it has none.

        Returns:
            The vectors, and the name of the model that made them.

        Raises:
            InvalidRequestError: the provider takes no items of this modality.
            ModelError: it cannot be opened, failed, or has too much to do.
        """
        opened = await self._open(entry.provider)
        if not isinstance(opened, Batcher):
            raise InvalidRequestError(
                f"The model {entry.model_id} is answered by Amazon Bedrock, by InvokeModel alone"
            )
        provider = opened.provider
        modality = items[0].modality
        if modality not in provider.modalities:
            raise InvalidRequestError(
                f"The model {entry.model_id} is answered by {provider.name}, which does not embed {modality}. "
                "Configure a provider that does"
            )
        wanted = dimension or (entry.dimensions[0] if entry.dimensions else None)
        answer = await opened.embed(items, purpose, wanted)
        if wanted is None or wanted == answer.vectors.shape[1]:
            return answer, provider.name
        vectors = np.ascontiguousarray(project(answer.vectors, wanted))
        return Embedded(vectors, answer.token_counts, answer.truncated), provider.name

    async def close(self) -> None:
        """Closes every provider that was opened."""
        for task in self._opening.values():
            task.cancel()
        opened = await asyncio.gather(*self._opening.values(), return_exceptions=True)
        self._opening.clear()
        for each in opened:
            if not isinstance(each, BaseException):
                await each.close()

    async def _open(self, name: str) -> Batcher | PassThrough:
        task = self._opening.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._open_once(name), name=f"opening {name}")
            self._opening[name] = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise ModelFailedError(STOPPING_TEXT) from None
            raise

    async def _open_once(self, name: str) -> Batcher | PassThrough:
        provider = await self._compute.run_aside(self._open_provider, name)
        if isinstance(provider, PassThrough):
            return provider
        limits = self._limits
        return Batcher(
            provider,
            batches_at_once=limits.batches_at_once if provider.is_remote else 1,
            item_count_max=limits.item_count_max,
            bytes_max=limits.bytes_max,
        )


def _bare_id(model_id: str) -> str:
    """Returns the id of a foundation model without what ARNs and inference profiles put before it."""
    name = model_id.rpartition("/")[2] if model_id.startswith("arn:") else model_id
    geography, _, rest = name.partition(".")
    return rest if geography in GEOGRAPHIES else name
