"""The secrets of providers, found when the server starts, so that a missing one stops it rather than a request.

Never part of a message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from whimbrel.core.secret_files import NAMES, SUFFIX, with_secret_files
from whimbrel.core.settings import SettingError
from whimbrel.embeddings.configuration import BedrockOptions, Configuration, OpenAIOptions

ACCESS_KEY_ENV: Final = "WHIMBREL_BEDROCK_ACCESS_KEY_ID"
SECRET_KEY_ENV: Final = "WHIMBREL_BEDROCK_SECRET_ACCESS_KEY"
SESSION_TOKEN_ENV: Final = "WHIMBREL_BEDROCK_SESSION_TOKEN"
SERVER_KEY_ENV: Final = "WHIMBREL_ACCESS_KEY_ID"

# What may stand in a header.
_API_KEY: Final = re.compile(r"[\x21-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockKeys:
    """Keys for Amazon Bedrock.

    Attributes:
        access_key_id: empty leaves all to the AWS SDK.
        secret_access_key: its secret.
        session_token: of temporary keys; else empty.
        server_key_id: that clients of this server sign with, so that it is not sent on; may be empty.
    """

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    server_key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """All secrets of a configuration's providers.

    Attributes:
        api_keys: by name of the provider; those without one are absent.
        bedrock: of all providers of that kind.
    """

    api_keys: Mapping[str, str]
    bedrock: BedrockKeys


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
    return Secrets(
        api_keys=api_keys, bedrock=_bedrock_keys(environment) if has_bedrock else BedrockKeys()
    )


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


def _bedrock_keys(environment: Mapping[str, str]) -> BedrockKeys:
    names = (ACCESS_KEY_ENV, SECRET_KEY_ENV, SESSION_TOKEN_ENV)
    found = with_secret_files(environment, names=names)
    key_id, secret, token = (found.get(name, "") for name in names)
    if bool(key_id) != bool(secret) or (token and not key_id):
        hint = f"set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV} both, or neither"
        raise SettingError("the keys for Amazon Bedrock are incomplete", hint=hint)
    return BedrockKeys(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=token,
        server_key_id=environment.get(SERVER_KEY_ENV, ""),
    )
