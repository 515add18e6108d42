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
from whimbrel.embeddings.catalog import (
    BUILTIN,
    IMAGE_FORMATS,
    MARENGO_IDS,
    MODELS,
    TEXT,
    TEXT_AND_IMAGE,
    Format,
    ModelEntry,
)

FILE_BYTES_MAX: Final = 1024 * 1024
HINT: Final = "docs/guides/embeddings.md describes the file"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Variable = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", max_length=256)]
Prefix = Annotated[str, msgspec.Meta(max_length=4096)]
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
    api_key_variable: Variable = ""
    sends_dimensions: bool = False
    document_prefix: Prefix = ""
    query_prefix: Prefix = ""
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
        document_prefix: what stands before texts to be stored; empty leaves it to the model's own prompts.
        query_prefix: what stands before texts to be asked for, likewise.
        batch_count_max: items at a time.
    """

    model: Name
    device: str = ""
    document_prefix: Prefix = ""
    query_prefix: Prefix = ""
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
        document_prefix: what stands before texts to be stored.
        query_prefix: what stands before texts to be asked for.
        batch_count_max: items at a time.
    """

    model: str = ""
    image_model: str = ""
    path: str = ""
    image_path: str = ""
    document_prefix: Prefix = ""
    query_prefix: Prefix = ""
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
        format: how requests look; needed for an id whose format is not known here.
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
        chosen = _format_of(model_id, options)
        assert chosen is not None, "checked when the file was read"
        return ModelEntry(
            model_id=model_id,
            model_name=options.name or model_id,
            maker=options.provider,
            format=chosen,
            modalities=TEXT_AND_IMAGE if chosen in IMAGE_FORMATS else TEXT,
            dimensions=options.dimensions,
            provider=options.provider,
        )
    return ModelEntry(
        model_id=model_id,
        model_name=options.name or known.model_name,
        maker=known.maker,
        format=options.format or known.format,
        modalities=known.modalities,
        dimensions=options.dimensions or known.dimensions,
        provider=options.provider,
    )


def _format_of(model_id: str, options: ModelOptions) -> Format | None:
    """Returns the format of an id's requests; None where neither the file nor the table of ids says it."""
    if options.format is not None:
        return options.format
    if model_id in MARENGO_IDS:
        return Format.MARENGO
    return next((entry.format for entry in MODELS if entry.model_id == model_id), None)


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
    except RecursionError as error:
        raise SettingError(f"{path} is nested too deeply", hint=HINT) from error
    except ValueError as error:
        raise SettingError(f"{path}: {error}", hint=HINT) from error


def parse_configuration(tables: Mapping[str, object]) -> Configuration:
    """Checks and returns a configuration.

    Raises:
        ValueError: something in it is impossible.
    """
    configuration = _convert(tables)
    for name, provider in configuration.providers.items():
        _check_provider(name, provider)
    for model_id, options in configuration.models.items():
        _check_model(model_id, options, configuration)
    return configuration


def _convert(tables: Mapping[str, object]) -> Configuration:
    try:
        return msgspec.convert(tables, Configuration)
    except msgspec.ValidationError as error:
        # It says where, but not under which name, which people want to know.
        for section, kind in (("providers", ProviderOptions), ("models", ModelOptions)):
            named = tables.get(section)
            for name, table in named.items() if isinstance(named, dict) else ():
                try:
                    msgspec.convert(table, kind)
                except msgspec.ValidationError as its_error:
                    raise ValueError(f'{section}."{name}": {its_error}') from its_error
        raise ValueError(str(error)) from error


def _check_provider(name: str, options: ProviderOptions) -> None:
    if name == BUILTIN:
        raise ValueError(f"the name {BUILTIN} belongs to the built-in provider")
    if not isinstance(options, FastembedOptions):
        return
    if not (options.model or options.image_model):
        raise ValueError(f'providers."{name}" needs a model or an image_model')
    for model, path in (("model", "path"), ("image_model", "image_path")):
        if getattr(options, path) and not getattr(options, model):
            raise ValueError(f'providers."{name}" has {path} without {model}')


def _check_model(model_id: str, options: ModelOptions, configuration: Configuration) -> None:
    provider = configuration.providers.get(options.provider)
    if provider is None and options.provider != BUILTIN:
        raise ValueError(f'models."{model_id}" names no provider: {options.provider}')
    chosen = _format_of(model_id, options)
    if chosen is None:
        raise ValueError(f'models."{model_id}" needs a format')
    if chosen is Format.MARENGO and not isinstance(provider, BedrockOptions):
        raise ValueError(f'models."{model_id}": only a provider of type bedrock has this model')
