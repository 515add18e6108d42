"""The rules of `encryptionConfiguration`: AES256 is all there is so far."""

from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.errors import not_supported

PATH: Final = "EncryptionConfiguration"  # spelt as AWS spells it in `fieldList`
KEY_WITH_AES256_TEXT: Final = "kmsKeyArn must not be specified when sseType is AES256."
KMS_WITHOUT_KEY_TEXT: Final = "kmsKeyArn must be specified when sseType is set to aws:kms"


def check_encryption(configuration: dict[str, Any] | None) -> None:
    """Checks the encryption a new vector bucket or index asks for; none asked for is AES256.

    Raises:
        InvalidRequestError: key and type do not fit, or the type is `aws:kms`.
    """
    if not configuration:
        return
    has_key = "kmsKeyArn" in configuration
    if configuration.get("sseType", "AES256") == "AES256":
        if has_key:
            raise InvalidRequestError(KEY_WITH_AES256_TEXT, (PATH, KEY_WITH_AES256_TEXT))
        return
    if not has_key:
        raise InvalidRequestError(KMS_WITHOUT_KEY_TEXT, (PATH, KMS_WITHOUT_KEY_TEXT))
    raise not_supported("Encryption with sseType aws:kms", PATH)
