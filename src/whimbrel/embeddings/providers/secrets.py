"""The secrets of providers, found when the server starts, so that a missing one stops it rather than a request.

Never part of a message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from whimbrel.core.aws_keys import AwsKeys, find_aws_keys, name_variables
from whimbrel.core.secret_files import NAMES, SUFFIX, with_secret_files
from whimbrel.core.settings import SettingError
from whimbrel.embeddings.configuration import BedrockOptions, Configuration, OpenAIOptions

BEDROCK_VARIABLES: Final = name_variables("BEDROCK")

# What may stand in a header.
_API_KEY: Final = re.compile(r"[\x21-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """All secrets of a configuration's providers.

    Attributes:
        api_keys: by name of the provider; those without one are absent.
        bedrock: of all providers of that kind.
    """

    api_keys: Mapping[str, str]
    bedrock: AwsKeys


def find_secrets(configuration: Configuration, environment: Mapping[str, str]) -> Secrets:
    """Finds the secrets that a configuration's providers need.

    Args:
        configuration: names their variables.
        environment: as `os.environ`.

    Raises:
        SettingError: one is missing or malformed.
        SecretFileError: one cannot be read from its file.
    """
    api_keys = {
        name: _api_key(name, options.api_key_variable, environment)
        for name, options in configuration.providers.items()
        if isinstance(options, OpenAIOptions) and options.api_key_variable
    }
    has_bedrock = any(
        isinstance(options, BedrockOptions) for options in configuration.providers.values()
    )
    if not has_bedrock:
        return Secrets(api_keys=api_keys, bedrock=AwsKeys())
    bedrock = find_aws_keys(environment, BEDROCK_VARIABLES, name="Amazon Bedrock")
    return Secrets(api_keys=api_keys, bedrock=bedrock)


def _api_key(provider: str, variable: str, environment: Mapping[str, str]) -> str:
    if variable in NAMES:
        hint = "name another variable; this one's secret is not for model servers"
        raise SettingError(f"providers.{provider}: {variable} is Whimbrel's own", hint=hint)
    key = with_secret_files(environment, names=(variable,)).get(variable, "")
    hint = f"set it to the key, or {variable}{SUFFIX} to the path of a file that holds the key"
    if not key:
        raise SettingError(f"providers.{provider}: the variable {variable} is not set", hint=hint)
    if not _API_KEY.fullmatch(key):
        raise SettingError(
            f"providers.{provider}: the variable {variable} holds no key: it has white space or "
            "other characters that no header may have",
            hint=hint,
        )
    return key
