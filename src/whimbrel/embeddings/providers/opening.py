"""Opens a provider by its name in the configuration; what it needs is imported only then."""

from collections.abc import Mapping
from typing import assert_never

from whimbrel.core.clock import Clock
from whimbrel.embeddings.builtin.provider import BuiltinProvider
from whimbrel.embeddings.catalog import BUILTIN
from whimbrel.embeddings.configuration import (
    BedrockOptions,
    Configuration,
    FastembedOptions,
    OpenAIOptions,
    ProviderOptions,
    SentenceTransformersOptions,
)
from whimbrel.embeddings.model import Provider
from whimbrel.embeddings.providers.fastembed import FastembedProvider
from whimbrel.embeddings.providers.packages import import_package
from whimbrel.embeddings.providers.secrets import Secrets, find_secrets
from whimbrel.embeddings.providers.sentence_transformers import SentenceTransformersProvider
from whimbrel.embeddings.registry import OpenProvider, PassThrough


def provider_opener(
    configuration: Configuration,
    environment: Mapping[str, str],
    *,
    thread_count: int,
    clock: Clock,
) -> OpenProvider:
    """Returns what opens the providers of a configuration.

    Args:
        configuration: names them.
        environment: as `os.environ`; holds their secrets.
        thread_count: threads that a model in this process may compute with.
        clock: for waits between tries.

    Raises:
        SettingError: a secret is missing or malformed.
        SecretFileError: one cannot be read from its file.
    """
    secrets = find_secrets(configuration, environment)

    def open_provider(name: str) -> Provider | PassThrough:
        if name == BUILTIN:
            return BuiltinProvider(thread_count=thread_count)
        options: ProviderOptions = configuration.providers[name]
        match options:
            case OpenAIOptions():
                return _open_openai(name, options, secrets, clock)
            case SentenceTransformersOptions():
                return SentenceTransformersProvider(options)
            case FastembedOptions():
                return FastembedProvider(options, thread_count=thread_count)
            case BedrockOptions():
                return _open_bedrock(options, secrets)
            case _:
                assert_never(options)

    return open_provider


def _open_openai(name: str, options: OpenAIOptions, secrets: Secrets, clock: Clock) -> Provider:
    import_package("aiohttp", command='pip install "whimbrel[embeddings]"')
    from whimbrel.embeddings.providers.openai import (  # noqa: PLC0415 - it imports an optional package
        OpenAIProvider,
        ShorteningOpenAIProvider,
    )

    kind = ShorteningOpenAIProvider if options.sends_dimensions else OpenAIProvider
    return kind(name, options, api_key=secrets.api_keys.get(name, ""), clock=clock)


def _open_bedrock(options: BedrockOptions, secrets: Secrets) -> PassThrough:
    import_package("boto3", command='pip install "whimbrel[bedrock]"')
    from whimbrel.embeddings.providers.bedrock import (  # noqa: PLC0415 - it imports an optional package
        BedrockPassThrough,
    )

    return BedrockPassThrough(options, secrets.bedrock)
