"""`encryptionConfiguration`: its rules, what it asks for, and how it is told.

AES256 is the server's own keys, `aws:kms` a key of a KMS. What a KMS says of a key while something is created under it
is told as AWS does, whatever it is: as a denial.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError, KeyUnavailableError, KmsDeniedError
from whimbrel.engine.access import AES256, SSE_KMS
from whimbrel.wire.output import EncryptionConfiguration

PATH: Final = "EncryptionConfiguration"  # spelt as AWS spells it in `fieldList`
KEY_WITH_AES256_TEXT: Final = "kmsKeyArn must not be specified when sseType is AES256."
KMS_WITHOUT_KEY_TEXT: Final = "kmsKeyArn must be specified when sseType is set to aws:kms"


def read_encryption(configuration: dict[str, Any] | None) -> str | None:
    """Returns the ARN of the key that a new vector bucket or index asks for.

    Returns:
        Empty for the server's own keys; None where nothing is asked for.

    Raises:
        InvalidRequestError: key and type do not fit.
    """
    if not configuration:
        return None
    arn: str | None = configuration.get("kmsKeyArn")
    if configuration.get("sseType", AES256) == AES256:
        if arn is not None:
            raise InvalidRequestError(KEY_WITH_AES256_TEXT, (PATH, KEY_WITH_AES256_TEXT))
        return ""
    if arn is None:
        raise InvalidRequestError(KMS_WITHOUT_KEY_TEXT, (PATH, KMS_WITHOUT_KEY_TEXT))
    return arn


def describe_encryption(kms_key_arn: str) -> EncryptionConfiguration:
    """Returns what is told of a resource's encryption; an empty ARN stands for the server's own keys."""
    if not kms_key_arn:
        return EncryptionConfiguration(AES256)
    return EncryptionConfiguration(SSE_KMS, kms_key_arn)


@contextmanager
def refusals_denied() -> Iterator[None]:
    """Turns what a KMS says of a key into a denial, for a block that creates something under it.

    Raises:
        KmsDeniedError: the KMS refuses.
    """
    try:
        yield
    except KeyUnavailableError as error:
        if type(error) is KeyUnavailableError:
            raise
        raise KmsDeniedError(error.message) from error
