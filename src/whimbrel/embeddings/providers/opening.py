"""Opens a provider by its name in the configuration; what it needs is imported only then."""

from collections.abc import Mapping

from whimbrel.embeddings.builtin.provider import BuiltinProvider
from whimbrel.embeddings.catalog import BUILTIN
from whimbrel.embeddings.configuration import Configuration
from whimbrel.embeddings.model import Provider
from whimbrel.embeddings.registry import OpenProvider, PassThrough


def provider_opener(
    configuration: Configuration, environment: Mapping[str, str], *, thread_count: int
) -> OpenProvider:
    """Returns what opens the providers of a configuration.

    Args:
        configuration: names them.
        environment: as `os.environ`; holds their secrets.
        thread_count: threads that a model in this process may compute with.
    """

    def open_provider(name: str) -> Provider | PassThrough:
        if name == BUILTIN:
            return BuiltinProvider(thread_count=thread_count)
        raise NotImplementedError(configuration.providers[name], environment)

    return open_provider
