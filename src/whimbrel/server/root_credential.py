"""Which root credential a server uses: from the environment, or made once for local stores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from whimbrel.auth.credentials import (
    ACCESS_KEY_ENV,
    SECRET_KEY_ENV,
    CredentialsError,
    RootCredential,
    config_directory,
    credential_from_environment,
    load_or_create_credentials,
)
from whimbrel.core.rand import Random
from whimbrel.core.settings import Settings

REMOTE_SCHEMES: Final = ("s3:", "gs:", "az:")


def is_remote(settings: Settings) -> bool:
    """Says whether the store is shared with other machines, on which nothing is that was made on this one."""
    return settings.store.lower().startswith(REMOTE_SCHEMES)


def find_config_directory(settings: Settings, environment: Mapping[str, str]) -> Path | None:
    """Returns the configuration directory, which need not exist; None where the user has none."""
    if settings.config_dir:
        return Path(settings.config_dir)
    try:
        return config_directory(environment)
    except CredentialsError:
        return None


def find_root_credential(
    settings: Settings, environment: Mapping[str, str], *, random: Random
) -> RootCredential:
    """Returns the credential that requests must be signed with.

    A remote store is shared with other machines, which would not know credentials made here; so none are.

    Args:
        settings: the store, and where the configuration directory is.
        environment: as `os.environ`.
        random: makes new keys.

    Raises:
        CredentialsError: there is none, or it cannot be used.
    """
    found = credential_from_environment(environment)
    if found is not None:
        return found
    if is_remote(settings):
        raise CredentialsError(
            "a remote store needs credentials from the environment",
            hint=f"set {ACCESS_KEY_ENV} and {SECRET_KEY_ENV}, the same on every node",
        )
    directory = Path(settings.config_dir) if settings.config_dir else config_directory(environment)
    return load_or_create_credentials(directory, random=random)
