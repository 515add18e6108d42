"""The configuration file of embeddings: which provider answers for which model.

    [providers.ollama]
    type = "openai"
    url = "http://127.0.0.1:11434/v1"
    model = "nomic-embed-text"

    [models."amazon.titan-embed-text-v2:0"]
    provider = "ollama"

1. A mistake in the file stops the server from starting, rather than give it models that nobody asked for.
2. Secrets are never in it: it names the environment variable that holds one.

`docs/guides/embeddings.md` describes every key; a test compares the two.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from whimbrel.core.settings import SettingError
from whimbrel.embeddings.catalog import BUILTIN, MODELS, Format, ModelEntry

FILE_BYTES_MAX: Final = 1024 * 1024
HINT: Final = "docs/guides/embeddings.md describes the file"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
BatchCount = Annotated[int, msgspec.Meta(ge=1, le=2048)]
Dimension = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class OpenAIOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="openai",
):
    """A server that speaks OpenAI's embeddings API: Ollama, vLLM, Text Embeddings Inference, OpenAI itself.

    Attributes:
        url: up to and with `/v1`.
        model: as that server calls it.
        api_key_variable: name of the environment variable with the key; empty sends none.
        sends_dimensions: whether the dimension that a request asks for is handed on, for models that can shorten.
        document_prefix: what stands before texts to be stored, such as `search_document: `.
        query_prefix: what stands before texts to be asked for.
        batch_count_max: texts a request.
        timeout_s: for one answer.
    """

    url: Url
    model: Name
    api_key_variable: str = ""
    sends_dimensions: bool = False
    document_prefix: str = ""
    query_prefix: str = ""
    batch_count_max: BatchCount = 64
    timeout_s: Seconds = 30.0


class SentenceTransformersOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="sentence-transformers",
):
    """A model that the package sentence-transformers runs in the server's process.

    Attributes:
        model: a path, or a name that the package downloads.
        device: `cpu`, `cuda`, ...; empty leaves it to the package.
        document_prefix: what stands before texts to be stored.
        query_prefix: what stands before texts to be asked for.
        batch_count_max: items at a time.
    """

    model: Name
    device: str = ""
    document_prefix: str = ""
    query_prefix: str = ""
    batch_count_max: BatchCount = 32


class FastembedOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="fastembed",
):
    """Models that the package fastembed runs in the server's process.

    Attributes:
        model: of texts; empty takes none.
        image_model: of images, of the same space as `model` for searching the one by the other; empty takes none.
        path: directory of the text model's files, for machines that may not download.
        image_path: directory of the image model's files.
        batch_count_max: items at a time.
    """

    model: str = ""
    image_model: str = ""
    path: str = ""
    image_path: str = ""
    batch_count_max: BatchCount = 32


class BedrockOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="bedrock",
):
    """Amazon Bedrock itself: requests and answers pass as they are, signed anew.

    Attributes:
        region: where; empty leaves it to the AWS SDK.
        profile: of the AWS SDK's files; empty leaves it to the AWS SDK.
        endpoint: another address than AWS's, such as a VPC endpoint's.
        timeout_s: for one answer.
    """

    region: str = ""
    profile: str = ""
    endpoint: Url | None = None
    timeout_s: Seconds = 60.0


ProviderOptions = OpenAIOptions | SentenceTransformersOptions | FastembedOptions | BedrockOptions


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers for one model id.

    Attributes:
        provider: a name under `providers`, or `builtin`.
        format: how requests look; needed for an id that is not known here.
        dimensions: those that requests may ask for, the default first; of a known id those that it has.
        name: for people.
    """

    provider: Name
    format: Format | None = None
    dimensions: Annotated[tuple[Dimension, ...], msgspec.Meta(max_length=16)] = ()
    name: str = ""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        providers: by name.
        models: by id.
        defaults: whether ids that the file does not name have the built-in model.
    """

    providers: dict[Name, ProviderOptions] = {}
    models: dict[Name, ModelOptions] = {}
    defaults: bool = True

    def entries(self) -> dict[str, ModelEntry]:
        """Returns every model that clients may name, by id."""
        known = {entry.model_id: entry for entry in MODELS}
        chosen = {
            model_id: _entry_of(model_id, options, known.get(model_id))
            for model_id, options in self.models.items()
        }
        return (known if self.defaults else {}) | chosen


def _entry_of(model_id: str, options: ModelOptions, known: ModelEntry | None) -> ModelEntry:
    if known is None:
        assert options.format is not None, "checked when the file was read"
        return ModelEntry(
            model_id=model_id,
            model_name=options.name or model_id,
            maker=options.provider,
            format=options.format,
            dimensions=options.dimensions,
            provider=options.provider,
        )
    changed = msgspec.structs.asdict(options)
    return ModelEntry(
        model_id=model_id,
        model_name=changed["name"] or known.model_name,
        maker=known.maker,
        format=options.format or known.format,
        modalities=known.modalities,
        dimensions=options.dimensions or known.dimensions,
        provider=options.provider,
    )


def read_configuration(path: str) -> Configuration:
    """Reads the file; an empty path is the empty configuration.

    Raises:
        SettingError: it cannot be read, or holds a mistake.
    """
    if not path:
        return Configuration()
    try:
        with Path(path).open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}", hint=HINT) from error
    if len(text) > FILE_BYTES_MAX:
        raise SettingError(f"{path} is larger than {FILE_BYTES_MAX} bytes", hint=HINT)
    try:
        return parse_configuration(tomllib.loads(text.decode()))
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingError(f"{path}: {error}", hint=HINT) from error


def parse_configuration(tables: Mapping[str, object]) -> Configuration:
    """Checks and returns a configuration.

    Raises:
        ValueError: something in it is impossible.
    """
    configuration = msgspec.convert(tables, Configuration)
    known = {entry.model_id for entry in MODELS}
    for model_id, options in configuration.models.items():
        if options.provider != BUILTIN and options.provider not in configuration.providers:
            raise ValueError(f'models."{model_id}" names no provider: {options.provider}')
        if options.format is None and model_id not in known:
            raise ValueError(f'models."{model_id}" needs a format')
    if BUILTIN in configuration.providers:
        raise ValueError(f"the name {BUILTIN} belongs to the built-in provider")
    for name, provider in configuration.providers.items():
        if isinstance(provider, FastembedOptions) and not (provider.model or provider.image_model):
            raise ValueError(f"providers.{name} needs a model or an image_model")
    return configuration
