"""Whimbrel: an object store with native vector support, speaking the API of Amazon S3 Vectors.

`connect` opens a store in this process, or connects to a server; `extend` gives a boto3 client our extensions.
Everything they need is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whimbrel.client import Client, PutProgress, connect
    from whimbrel.core.errors import WhimbrelError
    from whimbrel.sdk import extend

__all__ = ["Client", "PutProgress", "WhimbrelError", "__version__", "connect", "extend"]

__version__ = "0.1.0"

_HOMES = {
    "Client": "whimbrel.client",
    "PutProgress": "whimbrel.client",
    "WhimbrelError": "whimbrel.core.errors",
    "connect": "whimbrel.client",
    "extend": "whimbrel.sdk",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whimbrel' has no attribute '{name}'")
    from importlib import import_module  # noqa: PLC0415 - `import whimbrel` costs nothing else

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
