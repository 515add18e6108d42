"""Where a client's key comes from: arguments, else the environment, else a profile of the shared files.

The files are botocore's to read, so they count where it is installed. No metadata service is asked: servers here have
keys of their own. Without any key requests go unsigned, which a server with `--no-auth` takes and any other refuses.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Final

from whimbrel.auth.signing import SigningKey

KEY_ENV: Final = "AWS_ACCESS_KEY_ID"
SECRET_ENV: Final = "AWS_SECRET_ACCESS_KEY"
TOKEN_ENV: Final = "AWS_SESSION_TOKEN"
PROFILE_ENV: Final = "AWS_PROFILE"
REGION_ENVS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
REGION_DEFAULT: Final = "us-east-1"


def find_key(
    *,
    access_key_id: str | None,
    secret_access_key: str | None,
    session_token: str | None,
    profile_name: str | None,
    environment: Mapping[str, str],
) -> SigningKey | None:
    """Returns the key to sign with, or None where there is none.

    Args:
        access_key_id: as an argument; given together with the secret.
        secret_access_key: likewise.
        session_token: likewise, of temporary credentials.
        profile_name: whose key is wanted; else one in the environment comes first.
        environment: as `os.environ`.

    Raises:
        ValueError: half a key was given.
    """
    if access_key_id or secret_access_key:
        if not (access_key_id and secret_access_key):
            raise ValueError("aws_access_key_id and aws_secret_access_key belong together")
        return SigningKey(access_key_id, secret_access_key, session_token or "")
    if profile_name is None and environment.get(KEY_ENV) and environment.get(SECRET_ENV):
        return SigningKey(
            environment[KEY_ENV], environment[SECRET_ENV], environment.get(TOKEN_ENV, "")
        )
    return _find_in_files(profile_name or environment.get(PROFILE_ENV))


def find_region(region_name: str | None, environment: Mapping[str, str]) -> str:
    """Returns the region to sign for, which a server here does not mind."""
    given = [environment[name] for name in REGION_ENVS if environment.get(name)]
    return region_name or (given[0] if given else REGION_DEFAULT)


def _find_in_files(profile_name: str | None) -> SigningKey | None:
    if importlib.util.find_spec("botocore") is None:
        return None
    session = importlib.import_module("botocore.session").Session(profile=profile_name)
    profiles = session.full_config.get("profiles", {})
    found = profiles.get(profile_name or "default", {})
    if "aws_access_key_id" not in found or "aws_secret_access_key" not in found:
        if profile_name is not None:
            raise ValueError(
                f"the shared files have no key of this profile. profile=`{profile_name}`"
            )
        return None
    token = found.get("aws_session_token", "")
    return SigningKey(found["aws_access_key_id"], found["aws_secret_access_key"], token)
