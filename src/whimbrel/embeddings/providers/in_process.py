"""A model that a package runs in this process: loaded when first needed and run by one thread, all its own.

1. Loading may take minutes, where a package downloads first; no other work waits behind it, nor does the server's end.
2. What failed to load is loaded anew for whoever asks next.
3. What the package raises never reaches a caller as it is: it may tell of files and addresses.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from whimbrel.core.errors import ModelFailedError, ModelNotReadyError, WhimbrelError
from whimbrel.core.threads import ThreadPool

REASON_CHARS_MAX: Final = 300

M = TypeVar("M")
T = TypeVar("T")


class InProcess(Generic[M]):
    """Keeps one model, of the type `M`."""

    def __init__(self, name: str, load: Callable[[], M]) -> None:
        """Loads nothing yet.

        Args:
            name: for messages.
            load: imports the package, and loads the model or downloads it first.
        """
        self._name = name
        self._load = load
        self._model: M | None = None
        self._thread = ThreadPool(1, "embedding")

    async def run(self, work: Callable[[M], T]) -> T:
        """Returns what a function makes of the model, on its thread.

        Raises:
            ModelNotReadyError: the package is not installed, or cannot load the model.
            ModelFailedError: the function raised something that is no error of ours.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run, work)

    def close(self) -> None:
        """Ends the thread once it is through with what it is at; the rest of its work is given up."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[M], T]) -> T:
        model = self._loaded()
        try:
            return work(model)
        except WhimbrelError:
            raise
        except Exception as error:
            raise ModelFailedError(f"{self._name} failed: {type(error).__name__}") from error

    def _loaded(self) -> M:
        if self._model is None:
            try:
                self._model = self._load()
            except WhimbrelError:
                raise
            except Exception as error:
                reason = " ".join(str(error).split())[:REASON_CHARS_MAX]
                raise ModelNotReadyError(f"{self._name} cannot be loaded: {reason}") from error
        return self._model
