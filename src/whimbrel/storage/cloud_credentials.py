"""Whether the environment holds credentials for S3, and what to say where it does not.

Without any, the SDK asks the instance metadata service, which is right on an instance that has a role and hopeless
elsewhere; its error does not tell the two apart, nor that credentials are the matter. So nothing is refused beforehand,
and a request that fails says what was looked for.
"""

from collections.abc import Mapping
from typing import Final

from whimbrel.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from whimbrel.storage.cloud_settings import CloudSettings

NOTE: Final = "no credentials were found in the environment, so the instance metadata service was asked for some."
HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or WHIMBREL_S3_ACCESS_KEY_ID and "
    "WHIMBREL_S3_SECRET_ACCESS_KEY; profiles are not read"
)
_PAIR: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Each says by itself where credentials come from, or that none are needed.
_SOURCES: Final = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
)


def has_credentials(settings: CloudSettings, environment: Mapping[str, str]) -> bool:
    """Returns whether anything but the instance metadata service is known to give credentials for S3.

    Args:
        settings: may hold a key.
        environment: as `os.environ`.

    Raises:
        StoreRefusedError: there is half a key.
    """
    pairs = (
        (settings.access_key_id, settings.secret_access_key),
        (environment.get(_PAIR[0], ""), environment.get(_PAIR[1], "")),
    )
    for key_id, secret in pairs:
        if key_id and secret:
            return True
        if key_id or secret:
            missing = "secret" if key_id else "id"
            raise StoreRefusedError(f"the {missing} of the store's key is missing.", hint=HINT)
    return any(environment.get(name) for name in _SOURCES)


def explain_missing(error: StoreError) -> StoreError:
    """Returns an error of a request that had no credentials but the instance's, with a word on that.

    Only refusals and failures get it: an object that is missing was looked for with credentials.
    """
    if isinstance(error, StoreRefusedError):
        return StoreRefusedError(f"{error} {NOTE}", hint=HINT)
    if isinstance(error, StoreUnavailableError):
        return StoreUnavailableError(f"{error} {NOTE} {HINT}", durability=error.durability)
    return error
